"""Sends one run folder to W&B: each row that training will not roll back, exactly once, even after kills."""

import contextlib
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import wandb
from PIL import Image

from vae_sweeps.runs.pictures import Picture
from vae_sweeps.runs.run_folder import STOPPED, RunFolder
from vae_sweeps.system import lease
from vae_sweeps.system.lease import Lease
from vae_sweeps.tracker import address, offline_files, server, view
from vae_sweeps.tracker.address import Place
from vae_sweeps.tracker.rows import RowTail

# Once, at import: if several threads open their first image at the same time, Pillow has not yet loaded its formats.
Image.init()

INIT_TIMEOUT_S = 10
# Shorter than the time that a job waits for its helper, which leaves time to check what arrived.
FINISH_TIMEOUT_S = 12
# How long to wait for the helper of a killed job to release the run.
_LOCK_TIMEOUT_S = 30


def _settings(finish_timeout_s: float) -> wandb.Settings:
    """Send nothing but the rows: with 64 runs in a process, `init` takes 19 ms, and 65 ms with the defaults."""
    return wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        finish_timeout=finish_timeout_s,
        finish_timeout_raises=True,
        init_timeout=INIT_TIMEOUT_S,
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
        x_transaction_log_flush_interval=1.0,  # by default a kill loses 15 s of rows
    )


def own_files(folder: RunFolder) -> Path:
    """The folder that holds W&B's local `wandb/` directory for this run."""
    return Path(address.read_link(folder).get("dir") or folder.path)


def remove_copies(folder: RunFolder, place: Place) -> None:
    """Upload missing media of the run, whose rows W&B has, then delete its local files. Raises wandb's errors."""
    own = own_files(folder) / "wandb"
    for file in own.glob(f"*run-*/run-{place.id}.wandb"):
        server.send_missing_files(place, file.parent / "files")
        shutil.rmtree(file.parent, ignore_errors=True)
    if own.parent == folder.path and not any(own.glob("*run-*/*.wandb")):
        shutil.rmtree(own, ignore_errors=True)


def _sent_before(folder: RunFolder, place: Place) -> int:
    """The last step that W&B has, or that an offline segment holds for it; -1 for none."""
    link = address.read_link(folder)
    steps = [step for segment in offline_files.segments_in(own_files(folder), place.id) for step in segment.steps]
    is_same = (link.get("project"), link.get("id")) == (place.project, place.id)
    return max([-1, link.get("sent_step", -1) if is_same else -1, *steps])


class Feed:
    """An open W&B run, and how much of the run folder it has received."""

    def __init__(self, folder: RunFolder, place: Place, run: Any, mode: str, sent_step: int, lock: Lease) -> None:
        self.folder, self.place, self.run, self.mode = folder, place, run, mode
        self.sent_step, self._lock = sent_step, lock
        self._tail = RowTail(folder)

    def send(self, up_to: float) -> None:
        """Log the rows up to a step; the last row of a training waits for `end`, because its pictures come later."""
        self._log([row for row in self._tail.rows() if row["step"] <= up_to and row["step"] < row["num_steps"]])

    def end(self) -> None:
        """Log the remaining rows and the summary, and finish. Raises TimeoutError if W&B takes too long."""
        result = self.folder.read_result()
        if result is not None:
            self._log(self._tail.rows())
            self.run.summary.update(view.summary(result))
        elif not self.folder.failure.exists():
            self.run.mark_preempting()
        self.run.finish(exit_code=0 if result is not None and result["status"] in ("done", STOPPED) else 1)
        self._lock.release()

    def abandon(self) -> None:
        """Close the run after an error, whatever its state."""
        with contextlib.suppress(Exception):
            self.run.finish(exit_code=1)
        self._lock.release()

    def num_rows(self) -> int:
        """How many of the folder's rows W&B should have by now."""
        return sum(row["step"] <= self.sent_step for row in self.folder.read_rows())

    @property
    def url(self) -> str:
        """The page to show to people: the group's if the run is in one, else the run's."""
        group = self.run.group
        return f"{self.run.project_url}/groups/{quote(group)}" if group else str(self.run.url)

    def _log(self, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            if row["step"] > self.sent_step:
                content = view.history_row(row)
                content |= {name: wandb.Histogram(v) for name, v in content.items() if isinstance(v, list)}
                content |= _images(view.pictures_of_row(self.folder, row))
                # Pass our step as W&B's: the server ignores a step that it already has.
                self.run.log(content, step=row["step"], commit=True)
                self.sent_step = row["step"]
        self._tail.drop(self.sent_step)


def _images(pictures: Mapping[str, Picture]) -> dict[str, Any]:
    images = {}
    for name, picture in pictures.items():
        with contextlib.suppress(OSError, ValueError):  # send the row without a picture that cannot be read
            is_file = picture.member is None
            images[name] = wandb.Image(str(picture.path) if is_file else Image.open(io.BytesIO(picture.read())))
    return images


def open_feed(
    folder: RunFolder,
    place: Place,
    mode: str,
    more: Mapping[str, Any],
    directory: Path,
    finish_timeout_s: float = FINISH_TIMEOUT_S,
) -> Feed:
    """Start or resume the folder's run and lock it until the feed ends; `directory` holds W&B's local files.

    Raises wandb's errors if `mode` is online and the server refuses the run, ValueError if another process has it.
    """
    try:
        lock = lease.wait_for(folder.path, ".wandb", timeout_s=_LOCK_TIMEOUT_S)
    except TimeoutError:
        raise ValueError("another process is sending it") from None
    try:
        sent_before = _sent_before(folder, place) if mode != "online" else -1
        run = wandb.init(
            entity=place.entity,
            project=place.project,
            id=place.id,
            mode="online" if mode == "online" else "offline",
            dir=directory,
            resume="allow",
            reinit="create_new",
            settings=_settings(finish_timeout_s),
            **more,
        )
        run.define_metric("global_step")
        run.define_metric("*", step_metric="global_step")
    except BaseException:
        lock.release()
        raise
    if mode != "online":
        return Feed(folder, place, run, mode, sent_before, lock)
    # Continue after the server's last step: rows that a kill lost on the way are sent again.
    return Feed(folder, Place(run.entity, place.project, place.id), run, mode, run.starting_step - 1, lock)
