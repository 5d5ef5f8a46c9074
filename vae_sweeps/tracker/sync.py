"""`vae-sweeps sync`: send what W&B has not, from offline segments and for the rest from the run folders."""

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
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files
from vae_sweeps.tracker import account, address, offline_files, server, view
from vae_sweeps.tracker.address import Place
from vae_sweeps.tracker.feed import open_feed, own_files, remove_copies
from vae_sweeps.tracker.server import Remote

log = logging.getLogger(__name__)

_SIDE_BY_SIDE = 4


@dataclass(frozen=True)
class Target:
    """Where runs go that are on W&B not yet, or, with a new salt, anew; what is None is as their configs say."""

    entity: str | None = None
    project: str | None = None
    salt: str | None = None


@dataclass(frozen=True)
class _Run:
    """A run folder, and what the server should have of it in the end."""

    folder: RunFolder
    place: Place
    steps: list[int]  # of the rows that are there to stay
    summary: dict[str, Any]
    state: str | None  # in W&B's words; None of a run that has not ended

    def is_whole(self, found: Remote | None) -> bool:
        return (
            found is not None
            and found.num_rows == len(self.steps)
            and all(found.summary.get(name) == value for name, value in self.summary.items())
        )

    def is_done(self, found: Remote | None) -> bool:
        """Whether there is nothing to send, not even that the run has ended."""
        return found is not None and self.is_whole(found) and self.state in (None, found.state)


def sync(
    folders: Sequence[RunFolder],
    sweep: SweepFolder | None,
    target: Target,
    *,
    from_folders: bool = False,
    timeout_s: float = 120,
) -> bool:
    """Bring W&B to the state of these runs; again, it sends nothing twice. Returns whether W&B has everything.

    `from_folders`: leave W&B's own offline files aside. Raises ValueError where no server can be had.
    """
    os.environ.pop("WANDB_SERVICE", None)  # of another process's helper
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
        log.warning("left: %s: %s", folder.name, reason)
    log.info("on W&B: %d of %d runs", len(folders) - len(left), len(folders))
    return not left


def _to_send(folders: Sequence[RunFolder], target: Target) -> tuple[list[_Run], dict[RunFolder, str]]:
    """The runs of which there is something to send, and why there is nothing of the others."""
    runs, left = [], {}
    for folder in folders:
        if claims.is_held(folder):
            left[folder] = "it is being trained, and sent from there"
            continue
        result, up_to = folder.read_result(), _last_kept_step(folder)
        steps = [row["step"] for row in folder.read_rows() if row["step"] <= up_to]
        if not steps and result is None:
            left[folder] = "it has no rows yet"
            continue
        summary = json.loads(files.to_json(view.summary(result))) if result else {}
        state = ("finished" if result["status"] == "done" else "failed") if result else None
        runs.append(_Run(folder, _place(folder, target), steps, summary, state))
    return runs, left


def _last_kept_step(folder: RunFolder) -> float:
    """Up to where rows are there to stay: a run that goes on some day does so from its checkpoint."""
    if folder.read_result() is not None:
        return float("inf")
    from vae_sweeps.runs import checkpoint  # with torch, which the runs of a finished sweep do without

    found = checkpoint.available(folder)
    return found[0].step if found else -1


def _place(folder: RunFolder, target: Target) -> Place:
    link = address.read_link(folder)
    if link and target == Target():
        return address.place(folder)
    own = folder.read_launch_options().tracker
    salt = own.salt if target.salt is None else target.salt
    project = target.project or link.get("project") or own.project
    entity = target.entity or link.get("entity") or own.entity
    return Place(entity, project, address.run_id(folder, salt))


def _send(run: _Run, found: Remote | None, sweep: SweepFolder | None, from_folders: bool, timeout_s: float) -> str:
    """Send what is missing of a run; returns what went wrong, if anything."""
    num_rows, troubles = found.num_rows if found else 0, []
    if not from_folders:
        try:
            num_rows = _send_segments(run, num_rows, timeout_s)
        except Exception as error:  # the run's folder has all that a segment has
            troubles.append(server.in_short(error))
    try:
        if num_rows > len(run.steps):
            return f"W&B has {num_rows} rows, and there are {len(run.steps)}"
        has_news = num_rows != (found.num_rows if found else 0)
        if not (has_news and run.is_done(server.look([run.place]).get(run.place))):
            _send_rest(run, sweep, timeout_s)
    except Exception as error:
        troubles.append(server.in_short(error))
    return "; ".join(troubles)


def _send_segments(run: _Run, num_rows: int, timeout_s: float) -> int:
    """Send the offline segments that W&B has nothing of yet; returns the rows that it then has.

    W&B has the first rows of the folder, since nothing else is ever sent. Raises ValueError where a segment is broken.
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
            break  # W&B has a part of it; sent whole, that part would stand there twice
        _run_wandb_sync(segment.folder, timeout_s)
        num_rows += len(segment.steps)
    return num_rows


def _run_wandb_sync(folder: Path, timeout_s: float) -> None:
    """W&B's own command, of one folder at a time: a broken one stops it, and its exit code says nothing."""
    command = [sys.executable, "-m", "wandb", "sync", str(folder)]
    try:
        with tempfile.TemporaryDirectory() as logs:
            environment = os.environ | {"WANDB_DIR": logs}
            subprocess.run(command, env=environment, capture_output=True, timeout=timeout_s, check=True)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{folder.name} was not taken in {timeout_s:g} s") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(f"wandb sync {folder.name}: {said[-1] if said else 'failed'}") from None


def _send_rest(run: _Run, sweep: SweepFolder | None, timeout_s: float) -> None:
    """Send rows, pictures and summary that W&B has not yet, from the run's folder."""
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
    """Remember that W&B has it, and remove W&B's own copies; returns why that could not be done, if so."""
    try:
        remove_copies(run.folder, run.place)
        address.write_link(run.folder, run.place, sent_step=run.steps[-1] if run.steps else -1)
    except Exception as error:
        return f"W&B has not all of its pictures ({server.in_short(error)})"
    return ""


def _what_is_wrong(run: _Run, found: Remote | None, trouble: str) -> str:
    if found is not None and found.num_rows > len(run.steps):
        return (
            f"W&B has {found.num_rows} rows where there are {len(run.steps)}; "
            "delete it there, and send it anew: vae-sweeps sync --rebuild --salt NEW"
        )
    has = "nothing of it" if found is None else f"{found.num_rows} of {len(run.steps)} rows"
    return f"W&B has {has}" + (f" ({trouble})" if trouble else "")
