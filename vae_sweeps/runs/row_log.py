"""The rows of a run that trains: appended to metrics.jsonl, and covered by a hash in every checkpoint."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import files

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Extent:
    """The beginning of metrics.jsonl: its length in bytes, and the sha256 of these bytes in hex."""

    size: int = 0
    sha256: str = hashlib.sha256().hexdigest()


def holds(path: Path, extent: Extent) -> bool:
    """Whether the file begins with the rows that `extent` describes."""
    return _hash_of(path, extent.size) == extent.sha256


def is_whole(folder: RunFolder, result: Mapping[str, Any]) -> bool:
    """Whether metrics.jsonl holds the rows of the finished run with this result, and no others."""
    if "rows" not in result:
        return True
    extent = Extent(**result["rows"])
    size = folder.rows.stat().st_size if folder.rows.exists() else 0
    return size == extent.size and holds(folder.rows, extent)


def _hash_of(path: Path, size: int) -> str | None:
    """The sha256 of the file's first `size` bytes; None if it has fewer."""
    digest, left = hashlib.sha256(), size
    try:
        with path.open("rb") as file:
            while left and (block := file.read(min(left, _BLOCK_BYTES))):
                digest.update(block)
                left -= len(block)
    except FileNotFoundError:
        pass
    return None if left else digest.hexdigest()


class RowLog:
    """Appends the rows of a run to its metrics.jsonl.

    The file stays open, and a run that is taken up again gets a new one. So a process that has lost its run cannot add
    rows to the file of its successor.
    """

    def __init__(self, folder: RunFolder, start: Extent) -> None:
        """Keep the rows in `start`, which the file must hold, and remove later ones."""
        self._folder, self._digest, self._size = folder, hashlib.sha256(), start.size
        self._file: BinaryIO = folder.new_file()
        prepared = Path(self._file.name)
        if start.size:
            with folder.rows.open("rb") as old:
                left = start.size
                while left and (block := old.read(min(left, _BLOCK_BYTES))):
                    self._file.write(block)
                    self._digest.update(block)
                    left -= len(block)
        self._file.flush()
        folder.move(prepared, folder.rows)
        assert self.extent() == start, f"{folder.rows}: changed while it was read"

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one line. Raises LostLeaseError if another process has taken over the run."""
        self._folder.check()
        line = (files.to_json(row) + "\n").encode()
        self._file.write(line)
        self._file.flush()
        self._digest.update(line)
        self._size += len(line)

    def extent(self) -> Extent:
        """The rows so far."""
        return Extent(self._size, self._digest.hexdigest())

    def close(self) -> None:
        self._file.close()
