"""Writes event files for TensorBoard: of a job's runs while they train, or of all runs of a sweep at once."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system.lease import LostLeaseError
from vae_sweeps.system.logs import count, first_line
from vae_sweeps.tracker.event_file import EventFile, open_event_file
from vae_sweeps.tracker.rows import last_kept_step

# How long to wait for the helper of a killed job to release a file.
_LOCK_TIMEOUT_S = 30

Say = Callable[..., None]


def logdir(folder: RunFolder, sweep: SweepFolder | None) -> Path:
    """What TensorBoard is to be started with: a folder of the sweep, or of a run that is in no sweep."""
    return folder.tensorboard if sweep is None else sweep.tensorboard


def logdir_of(folders: Sequence[RunFolder], sweep: SweepFolder | None) -> Path:
    """What TensorBoard is to be started with to see all of these runs."""
    if sweep is None and len(folders) > 1:
        return folders[0].path.parent
    return logdir(folders[0], sweep)


def how_to_show(folder: Path) -> str:
    """The command that shows event files."""
    return f"tensorboard --logdir {shlex.quote(str(folder))}"


class EventWriter:
    """Writes the event files of a job's runs; the helper process calls it with what the job tells.

    An error costs the run's file only: it is reported at the end, and the file can be written later.
    """

    def __init__(self, hello: Mapping[str, Any], say: Say) -> None:
        self._sweep = SweepFolder(Path(hello["sweep_folder"])) if hello["sweep_folder"] else None
        self._how_to_sync, self._say = hello["how_to_sync"], say
        self._files: dict[RunFolder, EventFile] = {}
        self._troubles: dict[RunFolder, str] = {}
        self._begun: set[RunFolder] = set()

    def begin(self, runs: Mapping[RunFolder, Mapping[str, Any]]) -> None:
        """Open the files of these runs; a pack that is halved begins its runs again."""
        swept = self._sweep.swept() if self._sweep is not None else []
        for folder in runs:
            if not self._begun:
                self._say(f"TensorBoard: {how_to_show(logdir(folder, self._sweep))}")
            self._begun.add(folder)
            self._troubles.pop(folder, None)
            self._close(folder)
            self._try(folder, lambda folder=folder: self._open(folder, swept))

    def saved(self, folders: Iterable[RunFolder], step: int) -> None:
        """Write the rows up to `step`, which training will not roll back."""
        for folder in folders:
            if folder in self._files:
                self._try(folder, lambda folder=folder: self._files[folder].send(step))

    def ended(self, folders: Iterable[RunFolder]) -> None:
        """Write the rest of these runs, and close their files."""
        for folder in folders:
            if folder in self._files:
                self._try(folder, lambda folder=folder: self._files[folder].end())
                self._close(folder)

    def close(self, seconds: float) -> None:
        """Close all files, and report what is missing. Nothing is waited for, whatever time there is."""
        self.ended(list(self._files))
        if self._troubles:
            reasons = "; ".join(dict.fromkeys(self._troubles.values()))
            total = f"{len(self._troubles)} of {count(len(self._begun), 'run')}"
            text = f"TensorBoard is missing data of {total} ({reasons})"
            self._say(f"{text}; to write the rest: {self._how_to_sync}", "warning")

    def _open(self, folder: RunFolder, swept: Sequence[str]) -> None:
        self._files[folder] = open_event_file(folder, logdir(folder, self._sweep), swept, _LOCK_TIMEOUT_S)

    def _try(self, folder: RunFolder, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._troubles[folder] = first_line(error)
            self._close(folder)

    def _close(self, folder: RunFolder) -> None:
        if (file := self._files.pop(folder, None)) is not None:
            file.close()


@dataclass(frozen=True)
class Written:
    """How many event files were changed, how many were up to date, and why the others could not be written."""

    num_changed: int
    num_same: int
    left: dict[RunFolder, str]


def write(folders: Sequence[RunFolder], sweep: SweepFolder | None) -> Written:
    """Write what the event files of these runs are missing; nothing is written twice."""
    swept = sweep.swept() if sweep is not None else []
    num_changed, left = 0, dict[RunFolder, str]()
    for folder in folders:
        try:
            file = open_event_file(folder, logdir(folder, sweep), swept, timeout_s=0)
            try:
                file.send(last_kept_step(folder))
                file.end()
            finally:
                file.close()
            num_changed += file.has_changed
        except (ValueError, OSError, LostLeaseError) as error:
            left[folder] = first_line(error)
    return Written(num_changed, len(folders) - num_changed - len(left), left)
