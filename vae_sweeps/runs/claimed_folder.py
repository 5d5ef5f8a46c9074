"""A folder into which one process writes at a time."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vae_sweeps.system import files
from vae_sweeps.system.lease import Lease


@dataclass(frozen=True, order=True)
class ClaimedFolder:
    """A folder that writes through its `lease`, if it was claimed (see `claims.taken`).

    If another process has taken the folder over, every method that writes raises LostLeaseError and writes nothing.
    """

    path: Path
    lease: Lease | None = field(default=None, compare=False, repr=False)

    def is_ours(self) -> bool:
        """Whether no other process has taken over the folder."""
        return self.lease is None or self.lease.is_held()

    def check(self) -> None:
        """Raise LostLeaseError if another process has taken over the run."""
        if self.lease is not None:
            self.lease.check()

    def write(self, path: Path, content: str | bytes) -> None:
        """Write a file in this folder atomically."""
        if self.lease is None:
            files.write_whole(path, content)
        else:
            self.lease.write(path, content)

    def new_file(self) -> BinaryIO:
        """Create a file that `move` will move to its place; a file of a claim that was lost cannot be moved."""
        self.check()
        return files.create((self.lease.private if self.lease else self.path) / f".{secrets.token_hex(8)}.tmp")

    def move(self, prepared: Path, path: Path) -> None:
        """Move a file of `new_file` to its place in this folder."""
        if self.lease is None:
            os.replace(prepared, path)
        else:
            self.lease.move(prepared, path)

    def remove(self, path: Path) -> None:
        """Remove a file of this folder, if it exists."""
        aside = (self.lease.private if self.lease else self.path) / f".{secrets.token_hex(8)}.tmp"
        with contextlib.suppress(FileNotFoundError):
            self.move(path, aside)  # which fails if the claim is lost, at whatever moment
        aside.unlink(missing_ok=True)

    @contextlib.contextmanager
    def prepared(self, target: Path) -> Iterator[Path]:
        """A folder for files that are moved to `target`, a folder in this one, at the end."""
        aside = (self.lease.private if self.lease else self.path) / f".{target.name}.{secrets.token_hex(8)}.tmp"
        self.check()
        aside.mkdir()
        try:
            yield aside
            self.check()
            target.mkdir(parents=True, exist_ok=True)
            for file in sorted(aside.iterdir()):
                self.move(file, target / file.name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def keep(self, path: Path, other: Path) -> None:
        """Give the file `path` a second name, in the place of `other`."""
        with self.new_file() as new:
            aside = Path(new.name)
        aside.unlink()
        try:
            os.link(path, aside, follow_symlinks=False)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, aside, follow_symlinks=False)
        self.move(aside, other)
