"""Decode image files once per machine, into one array of bytes on disk; takes a lock, and resumes after a kill.

A folder `images-<digest>` of the cache holds `decoding.u8` and `journal.jsonl` during decoding (the journal has a line
for each chunk of rows on the disk), and `index.json` and `images.u8` when it is finished. Both are verified when they
are read (`array.py`), and what is damaged is decoded again.
"""

import contextlib
import errno
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from vae_sweeps.data.decoding.array import IMAGES, Index, check_pixels, read_index
from vae_sweeps.data.decoding.image import Transform
from vae_sweeps.data.decoding.making import OnBadFile, Source, make_array
from vae_sweeps.system import cache, lease
from vae_sweeps.system.files import DamagedError

log = logging.getLogger(__name__)

_VERSION = 1  # increase it when a change of the code changes the bytes


@dataclass(frozen=True)
class Decoded:
    """Decoded `images`, uint8 [n,C,H,W], mapped from the file rather than held in memory.

    `kept` is whether each of the source's files is among them; `content` is a hash of the pixels.
    """

    images: UInt8[Tensor, "n C H W"]
    kept: Bool[np.ndarray, " N"]
    content: str


def decoded(source: Source, transform: Transform, cache_folder: str | None, on_bad_file: OnBadFile) -> Decoded:
    """The source's images, from the cache if they have been decoded before.

    Raises ValueError with the path for a file that is not a complete image (`skip` leaves it out instead), for images
    of several sizes, and for a cache that cannot be written.
    """
    parent = cache.folder() if cache_folder is None else Path(os.path.expanduser(cache_folder))
    files = list(zip(source.names, source.stamps, strict=True))
    folder = parent / f"images-{cache.digest([_VERSION, asdict(transform), files])}"
    damage = ""
    try:
        if (opened := _open(folder, source, on_bad_file)) is not None:
            return opened
    except DamagedError as error:
        damage = str(error)
    try:
        return _made(folder, source, transform, on_bad_file)
    except OSError as error:
        reason = error.strerror or error
        if damage:
            raise ValueError(
                f"{damage}, and the images cannot be decoded again there ({reason}); "
                f"make {parent} writable, or set data.cache to another folder"
            ) from error
        raise ValueError(
            f"data.cache={parent}: decoded images cannot be stored there ({reason}); "
            "free disk space, or set data.cache to another folder"
        ) from error


def _made(folder: Path, source: Source, transform: Transform, on_bad_file: OnBadFile) -> Decoded:
    """The images, decoded by this process or by another that was faster. Raises OSError as `make_array` does."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        damaged = None
        try:
            opened = _open(folder, source, on_bad_file)
        except DamagedError as error:
            log.warning("%s; decoding the images again", error)
            opened, damaged = None, _index_if_readable(folder)
        if opened is None:
            with _removed_if_disk_is_full(folder):
                make_array(folder, source, transform, on_bad_file)
            opened = _open(folder, source, on_bad_file)
            assert opened is not None
        if damaged is not None and damaged.content != opened.content:
            log.warning("%s: now holds other pixels than before the damage; its runs get other ids", folder)
    return opened


def _index_if_readable(folder: Path) -> Index | None:
    with contextlib.suppress(DamagedError):
        return read_index(folder)
    return None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process decode while the others wait."""
    name = f".{folder.name}"
    held = lease.take(folder.parent, name)
    if held is None:
        log.info("waiting for another process to decode the same images")
        held = lease.wait_for(folder.parent, name)
    with held:
        yield


@contextlib.contextmanager
def _removed_if_disk_is_full(folder: Path) -> Iterator[None]:
    """Remove the folder if the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _open(folder: Path, source: Source, on_bad_file: OnBadFile) -> Decoded | None:
    """The finished array, or None if it is missing, or lacks files that may not be skipped.

    Raises DamagedError if the array or its index is not what was written.
    """
    index = read_index(folder)
    if index is None or not (folder / IMAGES).exists():
        return None
    if index.shape[0] + len(index.skipped) != len(source.names) or (index.skipped and on_bad_file == "error"):
        return None
    check_pixels(folder, index)
    kept = np.ones(len(source.names), bool)
    kept[index.skipped] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that the array cannot be written to
        images = torch.from_numpy(np.memmap(folder / IMAGES, np.uint8, "r", shape=index.shape))
    if index.skipped:
        skipped = _and_more([source.names[row] for row in index.skipped])
        log.info("%s: skipped %s: not complete images", source.root, skipped)
    return Decoded(images, kept, index.content)


def _and_more(names: Sequence[str]) -> str:
    shown = [name.encode(errors="backslashreplace").decode() for name in names[:3]]  # names need not be UTF-8
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
