"""What a launch knows of a data set without reading it, as long as its files are unchanged. Does not import torch.

A launch whose points are all done needs no more than the fingerprint, which is in the names of the runs. Whatever
trains or evaluates reads the data, and computes the fingerprint again.
"""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vae_sweeps.system import cache
from vae_sweeps.system.files import DamagedError, seal, unseal, write_whole

log = logging.getLogger(__name__)

_PACKAGE = Path(__file__).parents[1]
# The code that turns files into images, labels and a fingerprint.
_CODE = sorted([*(_PACKAGE / "data").rglob("*.py"), _PACKAGE / "system" / "rng.py"])


class Stamp(NamedTuple):
    """A file's path, and numbers of which one changes whenever the file is written or replaced."""

    path: str
    num_bytes: int
    modified_ns: int
    changed_ns: int
    inode: int


def stamps(paths: Iterable[Path]) -> tuple[Stamp, ...] | None:
    """The stamps of the files now; None if one of them does not exist."""
    try:
        found = [(path.absolute(), path.stat()) for path in paths]
    except OSError:
        return None
    return tuple(Stamp(str(path), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for path, s in found)


@dataclass(frozen=True)
class Remembered:
    """The fingerprint of a data set, and the line that describes it."""

    fingerprint: str
    description: str


def recall(data: Mapping[str, Any]) -> Remembered | None:
    """What is remembered of this data; None if that is nothing, or if a file of the data or of the code has changed."""
    path = _path(data)
    try:
        content = unseal(path.read_bytes(), path)
    except (OSError, DamagedError):
        return None
    files = tuple(Stamp(*fields) for fields in content["files"])
    is_unchanged = files == stamps(Path(file.path) for file in files)
    return Remembered(content["fingerprint"], content["description"]) if is_unchanged else None


def remember(data: Mapping[str, Any], remembered: Remembered, files: Iterable[Stamp]) -> None:
    """Keep what is known of this data, which was read from `files`."""
    path, code = _path(data), stamps(_CODE)
    if code is None:
        return  # the package is not in a folder
    content = {
        "fingerprint": remembered.fingerprint,
        "description": remembered.description,
        "files": [*files, *code],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, seal(content))
    except OSError as error:
        log.debug("%s: not cached (%s)", path, error)


def _path(data: Mapping[str, Any]) -> Path:
    where = [os.getcwd(), os.path.expanduser("~")]  # paths in a config may be relative to either
    return cache.folder() / f"fingerprint-{cache.digest([data, *where])}.json"
