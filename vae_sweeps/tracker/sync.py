"""`vae-sweeps sync`: sends what W&B is missing, from offline segments first and then from the run folders."""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vae_sweeps.runs import claims
from vae_sweeps.runs.run_folder import STOPPED, RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files
from vae_sweeps.tracker import account, address, offline_files, server, view
from vae_sweeps.tracker.address import Place
from vae_sweeps.tracker.feed import open_feed, own_files, remove_copies
from vae_sweeps.tracker.rows import last_kept_step
from vae_sweeps.tracker.server import Remote

log = logging.getLogger(__name__)

_SIDE_BY_SIDE = 4


@dataclass(frozen=True)
class Target:
    """The address of runs that are not on W&B yet, or go there again with a new salt; None keeps their settings."""

    entity: str | None = None
    project: str | None = None
    salt: str | None = None


@dataclass(frozen=True)
class _Run:
    """A run folder, and what the server should have of it after the sync."""

    folder: RunFolder
    place: Place
    steps: list[int]  # of the rows that training will not roll back
    summary: dict[str, Any]
    state: str | None  # in W&B's words; None if the run has not ended

    def is_whole(self, found: Remote | None) -> bool:
        return (
            found is not None
            and found.num_rows == len(self.steps)
            and all(found.summary.get(name) == value for name, value in self.summary.items())
        )

    def is_done(self, found: Remote | None) -> bool:
        """Whether there is nothing to send, not even the state of a run that has ended."""
        return found is not None and self.is_whole(found) and self.state in (None, found.state)


def sync(
    folders: Sequence[RunFolder],
    sweep: SweepFolder | None,
    target: Target,
    *,
    from_folders: bool = False,
    timeout_s: float = 120,
) -> bool:
    """Send what W&B is missing of these runs, without duplicates. Returns whether W&B has everything.

    `from_folders`: ignore W&B's offline files. Raises ValueError if there is no key or the server does not answer.
    """
    os.environ.pop("WANDB_SERVICE", None)  # it belongs to the wandb service of another process
    os.environ |= {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
    account.require_key("W&B")
    runs, left = _to_send(folders, target)
    try:
        before = server.look([run.place for run in runs])
        todo = [run for run in runs if not run.is_done(before.get(run.place))]
        log.info("%d runs: %d to send, %d on W&B already", len(runs), len(todo), len(runs) - len(todo))

        def send(run: _Run) -> str:
            return _send(run, before.get(run.place), sweep, from_folders, timeout_s)

        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            troubles = dict(zip((run.folder for run in todo), pool.map(send, todo), strict=True))
        after = server.look([run.place for run in runs])
    except Exception as error:
        raise ValueError(f"W&B: {account.base_url()}: {server.in_short(error)}") from error
    whole = [run for run in runs if run.is_whole(after.get(run.place))]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        left |= {run.folder: why for run, why in zip(whole, pool.map(_settle, whole), strict=True) if why}
    for run in runs:
        if not run.is_whole(after.get(run.place)):
            left[run.folder] = _what_is_wrong(run, after.get(run.place), troubles.get(run.folder, ""))
    for folder, reason in left.items():
        log.warning("incomplete: %s: %s", folder.name, reason)
    log.info("on W&B: %d of %d runs", len(folders) - len(left), len(folders))
    return not left


def _to_send(folders: Sequence[RunFolder], target: Target) -> tuple[list[_Run], dict[RunFolder, str]]:
    """The runs that have something to send, and for each of the others the reason why not."""
    runs, left = [], {}
    for folder in folders:
        if claims.is_held(folder):
            left[folder] = "it is being trained, and its job sends it"
            continue
        result, up_to = folder.read_result(), last_kept_step(folder)
        steps = [row["step"] for row in folder.read_rows() if row["step"] <= up_to]
        if not steps and result is None:
            left[folder] = "it has no rows yet"
            continue
        summary = json.loads(files.to_json(view.summary(result))) if result else {}
        state = ("finished" if result["status"] in ("done", STOPPED) else "failed") if result else None
        runs.append(_Run(folder, _place(folder, target), steps, summary, state))
    return runs, left


def _place(folder: RunFolder, target: Target) -> Place:
    link = address.read_link(folder)
    if link and target == Target():
        return address.place(folder)
    settings = folder.read_launch_options().tracker
    salt = settings.salt if target.salt is None else target.salt
    project = target.project or link.get("project") or settings.project
    entity = target.entity or link.get("entity") or settings.entity
    return Place(entity, project, address.run_id(folder, salt))


def _send(run: _Run, found: Remote | None, sweep: SweepFolder | None, from_folders: bool, timeout_s: float) -> str:
    """Send what W&B is missing of a run; returns what went wrong, or ""."""
    num_rows, troubles = found.num_rows if found else 0, []
    if not from_folders:
        try:
            num_rows = _send_segments(run, num_rows, timeout_s)
        except Exception as error:  # continue: the run folder has everything that a segment has
            troubles.append(server.in_short(error))
    try:
        if num_rows > len(run.steps):
            return f"W&B has {num_rows} rows, and the run folder {len(run.steps)}"
        has_news = num_rows != (found.num_rows if found else 0)
        if not (has_news and run.is_done(server.look([run.place]).get(run.place))):
            _send_rest(run, sweep, timeout_s)
    except Exception as error:
        troubles.append(server.in_short(error))
    return "; ".join(troubles)


def _send_segments(run: _Run, num_rows: int, timeout_s: float) -> int:
    """Send the offline segments of which W&B has no rows yet; returns how many rows it then has.

    W&B has the folder's first rows, because rows are sent in order. Raises ValueError if a segment is broken.
    """
    found = [
        segment
        for segment in offline_files.segments_in(own_files(run.folder), run.place.id)
        if segment.project == run.place.project and segment.entity in ("", run.place.entity or "")
    ]
    for segment in found:
        if not segment.is_whole:
            raise ValueError(f"{segment.folder.name} is broken")
    for segment in found:
        last_sent = run.steps[min(num_rows, len(run.steps)) - 1] if num_rows else -1
        if segment.steps and segment.steps[-1] <= last_sent:
            continue
        if segment.steps and segment.steps[0] <= last_sent:
            break  # W&B has part of it, which sending the whole would duplicate
        _run_wandb_sync(segment.folder, timeout_s)
        num_rows += len(segment.steps)
    return num_rows


def _run_wandb_sync(folder: Path, timeout_s: float) -> None:
    """Run `wandb sync` for one folder, because a broken folder would stop it and its exit code does not show that."""
    command = [sys.executable, "-m", "wandb", "sync", str(folder)]
    try:
        with tempfile.TemporaryDirectory() as logs:
            environment = os.environ | {"WANDB_DIR": logs}
            subprocess.run(command, env=environment, capture_output=True, timeout=timeout_s, check=True)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{folder.name} was not uploaded within {timeout_s:g} s") from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(f"wandb sync {folder.name}: {lines[-1] if lines else 'failed'}") from None


def _send_rest(run: _Run, sweep: SweepFolder | None, timeout_s: float) -> None:
    """Send the rows, pictures and summary that W&B is missing from the run's folder."""
    facts = view.facts_of(run.folder.read_result())
    more = view.arguments(run.folder, sweep, run.folder.read_launch_options().tracker.tags, facts)
    with tempfile.TemporaryDirectory() as directory:
        feed = open_feed(run.folder, run.place, "online", more, Path(directory), timeout_s)
        try:
            feed.send(run.steps[-1] if run.steps else -1)
            feed.end()
        except BaseException:
            feed.abandon()
            raise
        server.send_missing_files(feed.place, Path(feed.run.settings.files_dir))


def _settle(run: _Run) -> str:
    """Record that W&B has the run, and delete W&B's local files; returns why that failed, or ""."""
    try:
        remove_copies(run.folder, run.place)
        address.write_link(run.folder, run.place, sent_step=run.steps[-1] if run.steps else -1)
    except Exception as error:
        return f"W&B is missing some of its pictures ({server.in_short(error)})"
    return ""


def _what_is_wrong(run: _Run, found: Remote | None, trouble: str) -> str:
    if found is not None and found.num_rows > len(run.steps):
        return (
            f"W&B has {found.num_rows} rows, but the run folder has {len(run.steps)}; "
            "delete the run there and send it again: vae-sweeps sync --rebuild --salt NEW"
        )
    has = "no rows" if found is None else f"{found.num_rows} of {len(run.steps)} rows"
    return f"W&B has {has}" + (f" ({trouble})" if trouble else "")
