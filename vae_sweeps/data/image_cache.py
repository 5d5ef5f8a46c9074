"""Images that are made once per machine, as one array of bytes in the cache, and mapped from there.

A folder of the cache holds the pixels in `images.u8` and their shape and hash in `index.json`. Both are verified when
they are opened (`decoding/array.py`), and what is damaged is made again. One process makes it while others wait.
"""

import contextlib
import errno
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from vae_sweeps.data.decoding.array import IMAGES, Index, check_pixels, read_index
from vae_sweeps.system import cache, lease
from vae_sweeps.system.files import DamagedError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stored:
    """`images`, uint8 [n,C,H,W], mapped from the file rather than held in memory, and their index."""

    images: UInt8[Tensor, "n C H W"]
    index: Index


def stored_once(
    recipe: Any, cache_folder: str | None, make: Callable[[Path], None], is_usable: Callable[[Index], bool]
) -> Stored:
    """The images that are stored under `recipe`, which must be serialisable as JSON, after making what is missing.

    `make(folder)` writes an array and its index; one that is not usable is made again. Raises ValueError as `make`
    does, and for a cache that cannot be written.
    """
    parent = cache.folder() if cache_folder is None else Path(os.path.expanduser(cache_folder))
    folder = parent / f"images-{cache.digest(recipe)}"
    damage = ""
    try:
        if (stored := _open(folder, is_usable)) is not None:
            return stored
    except DamagedError as error:
        damage = str(error)
    try:
        return _made(folder, make, is_usable)
    except OSError as error:
        reason = error.strerror or error
        if damage:
            raise ValueError(
                f"{damage}, and the images cannot be made again there ({reason}); "
                f"make {parent} writable, or set data.cache to another folder"
            ) from error
        raise ValueError(
            f"data.cache={parent}: images cannot be stored there ({reason}); "
            "free disk space, or set data.cache to another folder"
        ) from error


def _made(folder: Path, make: Callable[[Path], None], is_usable: Callable[[Index], bool]) -> Stored:
    """The images, made by this process or by another that was faster. Raises OSError as `make` does."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        damaged = None
        try:
            stored = _open(folder, is_usable)
        except DamagedError as error:
            log.warning("%s; making the images again", error)
            stored, damaged = None, _index_if_readable(folder)
        if stored is None:
            with _removed_if_disk_is_full(folder):
                make(folder)
            stored = _open(folder, is_usable)
            assert stored is not None
        if damaged is not None and damaged.content != stored.index.content:
            log.warning("%s: now holds other pixels than before the damage; its runs get other ids", folder)
    return stored


def _index_if_readable(folder: Path) -> Index | None:
    with contextlib.suppress(DamagedError):
        return read_index(folder)
    return None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process make the images while the others wait."""
    name = f".{folder.name}"
    held = lease.take(folder.parent, name)
    if held is None:
        log.info("waiting for another process to make the same images")
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


def _open(folder: Path, is_usable: Callable[[Index], bool]) -> Stored | None:
    """The finished array, or None if it is missing or not usable.

    Raises DamagedError if the array or its index is not what was written.
    """
    index = read_index(folder)
    if index is None or not (folder / IMAGES).exists() or not is_usable(index):
        return None
    check_pixels(folder, index)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that the array cannot be written to
        return Stored(torch.from_numpy(np.memmap(folder / IMAGES, np.uint8, "r", shape=index.shape)), index)
