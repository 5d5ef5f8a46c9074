"""The rows of a run that a tracker has to send: those that training has written and will not roll back."""

import json
import os
from collections.abc import Iterator
from typing import Any

from vae_sweeps.runs.run_folder import RunFolder


class RowTail:
    """Reads the rows of a run as they are written, and keeps them until they are dropped."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._inode, self._offset = -1, 0
        self._kept: list[dict[str, Any]] = []

    def rows(self) -> list[dict[str, Any]]:
        """The rows so far that were not dropped, in order."""
        new = self._read()  # which may empty what is kept
        self._kept += new
        return self._kept

    def drop(self, step: int) -> None:
        """Drop the rows up to a step: they were sent."""
        self._kept = [row for row in self._kept if row["step"] > step]

    def _read(self) -> list[dict[str, Any]]:
        """The rows added since the last call. A resumed training replaces the file; it is then read from its start."""
        try:
            with self._folder.rows.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                if inode != self._inode:
                    self._inode, self._offset, self._kept = inode, 0, []
                file.seek(self._offset)
                whole = file.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            return []
        self._offset += len(whole) + 1 if whole else 0
        return list(_parsed(whole))


def _parsed(lines: bytes) -> Iterator[dict[str, Any]]:
    for line in lines.splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # truncated by a kill
            continue


def last_kept_step(folder: RunFolder) -> float:
    """The last step that training will not roll back: a run that is resumed continues from its checkpoint."""
    if folder.read_result() is not None:
        return float("inf")
    from vae_sweeps.runs import checkpoint  # imports torch, which finished runs do not need

    checkpoints = checkpoint.available(folder)
    return checkpoints[0].step if checkpoints else -1
