"""dSprites (Matthey, Higgins, Hassabis & Lerchner 2017): white shapes on black with five factors, in one .npz file."""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Unpack

import numpy as np
from jaxtyping import UInt8

from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.downloads import Source, find_or_download
from vae_sweeps.data.factorial import BLOCK_BYTES, Factorial, FactorialOptions, factorial_dataset
from vae_sweeps.data.factors import all_combinations
from vae_sweeps.data.remembered import stamps

_FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
# The authors publish no sum. This MD5 is the one that many projects give; no sha256 of this file is known.
DSPRITES = Source(
    mirrors=("https://github.com/google-deepmind/dsprites-dataset/raw/master/",),
    sums={_FILE: "7da33b31b13a06f4b04a70402ce90c2e"},
    served_as="plain",
    algorithm="md5",
)
_NAMES, _SIZES = ("shape", "scale", "orientation", "x", "y"), (3, 6, 40, 32, 32)
_SIDE = 64

_UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)


def dsprites(root: str | None, **options: Unpack[FactorialOptions]) -> Dataset:
    """dSprites in the folder `root`: 737,280 images of 64 x 64 pixels, 0 or 255, of which `num_images` are used.

    The factors are shape (square, ellipse, heart; also the label), scale (6), orientation (40), x and y (32 each).
    Raises ValueError if the file is missing and cannot be downloaded, or is not dSprites.
    """
    path = find_or_download(root, DSPRITES)[_FILE]
    return factorial_dataset(from_npz(path, _SIZES), **options)


def from_npz(path: Path, sizes: Sequence[int]) -> Factorial:
    """The images of a file in the format of dSprites with these sizes of the five factors.

    Raises ValueError if the file is not such a file. Only `blocks` reads the images, a part at a time.
    """
    table, files = all_combinations(_NAMES, sizes), stamps([path]) or ()
    # The first column is the colour, which is always white.
    expected = np.concatenate([np.zeros_like(table.classes[:, :1]), table.classes], axis=1)
    with _opened(path, "latents_classes", expected.shape) as (file, dtype):
        classes = np.frombuffer(_read(file, expected.size * dtype.itemsize), dtype).reshape(expected.shape)
    if not np.array_equal(classes, expected):
        raise ValueError(
            f"{path}: latents_classes are not those of dSprites in its order; remove it to have it downloaded again"
        )
    return Factorial("dsprites", table, (1, _SIDE, _SIDE), lambda: _blocks(path, len(expected)), files)


def _blocks(path: Path, num_images: int) -> Iterator[UInt8[np.ndarray, "n 1 64 64"]]:
    with _opened(path, "imgs", (num_images, _SIDE, _SIDE)) as (file, dtype):
        if dtype != np.uint8:
            raise ValueError(f"imgs are {dtype}, expected uint8")
        step = BLOCK_BYTES // _SIDE**2
        for start in range(0, num_images, step):
            num = min(step, num_images - start)
            block = np.frombuffer(_read(file, num * _SIDE**2), np.uint8).reshape(num, 1, _SIDE, _SIDE)
            if block.max() > 1:
                raise ValueError("imgs have other values than 0 and 1")
            yield block * np.uint8(255)
        file.read(1)  # at the end of the member, its checksum is compared


@contextlib.contextmanager
def _opened(path: Path, name: str, shape: tuple[int, ...]) -> Iterator[tuple[IO[bytes], np.dtype]]:
    """An array of the .npz at its first number, and its type. Raises ValueError if it has not this shape.

    Also turns what goes wrong in reading it into a ValueError with the path.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            found, is_fortran, dtype = _header(file)
            if found != shape or is_fortran or dtype.kind not in "iu":
                raise ValueError(f"{name} is {dtype} of {list(found)}, expected whole numbers of {list(shape)}")
            yield file, dtype
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()).strip("'\"")
        raise ValueError(
            f"{path}: is not the file of dSprites, or is damaged: {reason}; remove it to have it downloaded again"
        ) from error


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """The array's shape, whether it is stored by columns, and its type."""
    if np.lib.format.read_magic(file) == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def _read(file: IO[bytes], num_bytes: int) -> bytes:
    content = file.read(num_bytes)
    if len(content) < num_bytes:
        raise EOFError("it is truncated")
    return content
