"""The event file of a run, which TensorBoard reads: it has what the run's folder has, in the same order.

One record holds all that belongs to a row, so a kill leaves a whole row or none. A file whose records are the first of
those that the folder gives is continued; any other, such as that of a run that was trained or evaluated again, is
replaced by a new file.
"""

import io
import itertools
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.summary.writer.record_writer import RecordWriter

from vae_sweeps.config.point import to_container
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import files, lease
from vae_sweeps.system.lease import Lease
from vae_sweeps.tracker import summaries, view
from vae_sweeps.tracker.messages import events
from vae_sweeps.tracker.rows import RowTail

_LOCK = ".writing"
_FRAME_BYTES = 16  # a record's length and checksums


class EventFile:
    """The event file of a run, which only this process writes until it is closed."""

    def __init__(self, folder: RunFolder, swept: Sequence[str], place: Path, lock: Lease) -> None:
        self.folder, self._swept, self._lock = folder, swept, lock
        self._tail = RowTail(folder)
        self._last: dict[str, Any] | None = None  # the last row that the file holds
        self._has_end = False
        self.has_changed = False
        self._open(place)

    def send(self, up_to: float) -> None:
        """Add the rows up to a step, which training will not roll back."""
        start = -1 if self._last is None else self._last["step"]
        rows = [row for row in self._tail.rows() if start < row["step"] <= up_to]
        self._append(map(self._row, rows))
        if rows:
            self._last = rows[-1]
            self._tail.drop(self._last["step"])

    def end(self) -> None:
        """Add the remaining rows and the outcome, if the run has ended."""
        result = self.folder.read_result()
        if result is not None and not self._has_end:
            self.send(float("inf"))
            self._append([self._end(result)])
            self._has_end = True

    def close(self) -> None:
        """Let other processes write."""
        self._lock.release()

    def _open(self, place: Path) -> None:
        """Continue the newest file there, or begin a new one, and empty the others.

        They are not removed: a TensorBoard that has read one of them would look for it, and not go on to the next.
        """
        found = sorted(place.glob("events.out.tfevents.*"))
        if found and self._continues(found[-1]):
            self._path, old = found[-1], found[:-1]
        else:
            # TensorBoard goes on from one file to the next in the order of their names.
            number = 1 + int(found[-1].suffix[1:]) if found else 1
            self._path, old = place / f"events.out.tfevents.{number:010d}", found
            self._began, self._last, self._has_end = self._beginning(), None, False
            # Prepared under a name that a TensorBoard which looks meanwhile does not take for an event file.
            prepared = self._lock.private / "prepared"
            prepared.write_bytes(_framed(self._head()))
            self._lock.move(prepared, self._path)
            self.has_changed = True
        for path in old:
            os.truncate(path, 0)

    def _continues(self, path: Path) -> bool:
        """Whether the records of the file are the first of those of the folder; takes note of what it holds."""
        records = list(RawEventFileLoader(str(path)).Load())
        is_whole = sum(len(record) + _FRAME_BYTES for record in records) == path.stat().st_size
        if not records or not is_whole:
            return False
        self._began = events.Event.FromString(records[0]).wall_time
        rows, result = self._tail.rows(), self.folder.read_result()
        ends = [] if result is None else [result]
        head = list(self._head())
        content = itertools.chain(head, map(self._row, rows), (self._end(end, rows) for end in ends))
        for record in records:
            if record != next(content, None):
                return False
        if len(records) < len(head):
            return False
        num_rows = min(len(records) - len(head), len(rows))
        self._has_end = len(records) > len(head) + num_rows
        self._last = rows[num_rows - 1] if num_rows else None
        return True

    def _beginning(self) -> float:
        """When training would have begun if it had gone on without a pause, in seconds since the epoch."""
        rows, result = self._tail.rows(), self.folder.read_result()
        if result is not None and "finished_at" in result:
            return datetime.strptime(result["finished_at"], files.TIME_FORMAT).timestamp() - _time_s(result)
        return self.folder.rows.stat().st_mtime - _time_s(rows[-1]) if rows else time.time()

    def _head(self) -> Iterator[bytes]:
        # A session that begins at step 0 replaces all that TensorBoard has read of the run from an earlier file.
        yield _bytes(events.Event(wall_time=self._began, file_version="brain.Event:2"))
        yield _bytes(events.Event(wall_time=self._began, session_log=events.SessionLog(status=events.SessionLog.START)))
        config = to_container(self.folder.read_point())
        yield self._event(0, 0.0, summaries.of_start(config, self._swept, self._began))

    def _row(self, row: dict[str, Any]) -> bytes:
        return self._event(row["step"], _time_s(row), summaries.of_row(self.folder, row))

    def _end(self, result: dict[str, Any], rows: list[dict[str, Any]] | None = None) -> bytes:
        last = self._last if rows is None else rows[-1] if rows else None
        summary = summaries.of_end(self.folder, result, self._swept, last, self._began)
        return self._event(result["step"], _time_s(result), summary)

    def _event(self, step: int, time_s: float, summary: Any) -> bytes:
        """A record whose relative time is the training time of the point, so that it is the same whenever written."""
        return _bytes(events.Event(wall_time=self._began + time_s, step=step, summary=summary))

    def _append(self, records: Iterable[bytes]) -> None:
        content = _framed(records)
        if content:
            self._lock.check()
            with self._path.open("ab") as file:
                file.write(content)
            self.has_changed = True


def _time_s(content: Mapping[str, Any]) -> float:
    return content.get("time_s") or 0.0


def _bytes(event: Any) -> bytes:
    return event.SerializeToString(deterministic=True)


def _framed(records: Iterable[bytes]) -> bytes:
    """The records as the file holds them: with lengths and checksums."""
    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    for record in records:
        writer.write(record)
    return buffer.getvalue()


def open_event_file(folder: RunFolder, parent: Path, swept: Sequence[str], timeout_s: float) -> EventFile:
    """Open the run's event file for writing, in a folder below `parent` with the run's name.

    Waits up to `timeout_s` for a process that writes it, such as the helper of a killed job. Raises ValueError if it
    does not end, or if the run's config cannot be read, and OSError.
    """
    name = _name(folder, swept)
    place = parent / name
    place.mkdir(parents=True, exist_ok=True)
    try:
        lock = lease.wait_for(place, _LOCK, timeout_s)
    except TimeoutError:
        raise ValueError("another process is writing its event file") from None
    try:
        _remove_earlier_names(parent, name, folder.id)
        return EventFile(folder, swept, place, lock)
    except BaseException:
        lock.release()
        raise


def _name(folder: RunFolder, swept: Sequence[str]) -> str:
    """The title and the run id: other runs may have the same title, as those of a launch with another seed."""
    words = view.title(to_container(folder.read_point()), swept).split()
    return f"{' '.join(map(files.folder_name, words))[:120]} {folder.id}"


def _remove_earlier_names(parent: Path, name: str, run_id: str) -> None:
    """Remove the folders that the run had before other keys were swept, unless another process writes there."""
    for other in os.listdir(parent):
        if other != name and other.endswith(f" {run_id}") and (lock := lease.take(parent / other, _LOCK)) is not None:
            shutil.rmtree(parent / other, ignore_errors=True)
            lock.release()
