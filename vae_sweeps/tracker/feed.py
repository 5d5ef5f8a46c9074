"""One W&B run, fed from its folder: only rows that training will not take back, each once, whatever was killed."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import wandb
from filelock import FileLock, Timeout
from PIL import Image

from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.tracker import address, offline_files, server, view
from vae_sweeps.tracker.address import Place

# Here, once: where several threads open their first image at the same time, Pillow knows no formats yet.
Image.init()

INIT_TIMEOUT_S = 10
# Short of what a run's end may be delayed by, with time left for a look at what arrived.
FINISH_TIMEOUT_S = 12
# How long the helper of a killed job may still be at the run.
_LOCK_TIMEOUT_S = 30


def _settings(finish_timeout_s: float) -> wandb.Settings:
    """Nothing but the rows: with 64 runs in a process an `init` takes 19 ms so, and 65 ms with the defaults."""
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
    """The folder in whose `wandb` the run's attempts have W&B's own files."""
    return Path(address.read_link(folder).get("dir") or folder.path)


def remove_copies(folder: RunFolder, place: Place) -> None:
    """Remove W&B's own files of the run, whose rows W&B has, once it has their media too. Raises wandb's errors."""
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
    """A W&B run that is open, and how much of its folder it has."""

    def __init__(self, folder: RunFolder, place: Place, run: Any, mode: str, sent_step: int, lock: FileLock) -> None:
        self.folder, self.place, self.run, self.mode = folder, place, run, mode
        self.sent_step, self._lock = sent_step, lock
        self._inode, self._offset = -1, 0
        self._unsent: list[dict[str, Any]] = []

    def send(self, up_to: float) -> None:
        """Log the rows up to a step; the very last one waits for `end`, with the pictures that belong to it."""
        self._unsent += self._read()
        self._log([row for row in self._unsent if row["step"] <= up_to and row["step"] < row["num_steps"]])

    def end(self) -> None:
        """Log what is left, and the summary, and finish. Raises TimeoutError if W&B does not take it in time."""
        result = self.folder.read_result()
        if result is not None:
            self._unsent += self._read()
            self._log(self._unsent)
            self.run.summary.update(view.summary(result))
        elif not self.folder.failure.exists():
            self.run.mark_preempting()
        self.run.finish(exit_code=0 if result is not None and result["status"] == "done" else 1)
        self._lock.release()

    def abandon(self) -> None:
        """Let go of the run after an error, whatever state it is in."""
        with contextlib.suppress(Exception):
            self.run.finish(exit_code=1)
        self._lock.release()

    def num_rows(self) -> int:
        """Rows of the folder that W&B should have by now."""
        return sum(row["step"] <= self.sent_step for row in self.folder.read_rows())

    @property
    def url(self) -> str:
        """Where people look at it: the group's page, or the run's own."""
        group = self.run.group
        return f"{self.run.project_url}/groups/{quote(group)}" if group else str(self.run.url)

    def _log(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if row["step"] > self.sent_step:
                content = view.history_row(row)
                content |= {name: wandb.Histogram(v) for name, v in content.items() if isinstance(v, list)}
                content |= _images(view.pictures_of_row(self.folder, row))
                # W&B's own step is ours: on the server a step that it has is not taken twice.
                self.run.log(content, step=row["step"], commit=True)
                self.sent_step = row["step"]
        self._unsent = [row for row in self._unsent if row["step"] > self.sent_step]

    def _read(self) -> list[dict[str, Any]]:
        """Rows that came since the last time. A resumed training replaces the file, which is then read anew."""
        try:
            with self.folder.rows.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                if inode != self._inode:
                    self._inode, self._offset, self._unsent = inode, 0, []
                file.seek(self._offset)
                whole = file.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            return []
        self._offset += len(whole) + 1 if whole else 0
        return list(_rows(whole))


def _rows(lines: bytes) -> Iterator[dict[str, Any]]:
    for line in lines.splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # cut short by a kill
            continue


def _images(pictures: Mapping[str, Path]) -> dict[str, Any]:
    images = {}
    for name, path in pictures.items():
        with contextlib.suppress(OSError, ValueError):  # a picture that cannot be read costs no row
            images[name] = wandb.Image(str(path))
    return images


def open_feed(
    folder: RunFolder,
    place: Place,
    mode: str,
    more: Mapping[str, Any],
    directory: Path,
    finish_timeout_s: float = FINISH_TIMEOUT_S,
) -> Feed:
    """Begin or resume the folder's run, with W&B's own files in `directory`; nobody else can until the feed has ended.

    Raises wandb's errors where `mode` is online and the server will not have it, ValueError where another has the run.
    """
    # Not of a thread: who ends a feed is seldom who opened it.
    lock = FileLock(folder.wandb_lock, timeout=_LOCK_TIMEOUT_S, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
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
    # The server says what it has: what a kill took on its way there is sent again.
    return Feed(folder, Place(run.entity, place.project, place.id), run, mode, run.starting_step - 1, lock)
