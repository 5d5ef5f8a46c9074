"""3D Shapes (Burgess & Kim 2018): a shape in a room, in colour, with six factors, in one HDF5 file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from jaxtyping import UInt8

from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.downloads import Source, find_or_download
from vae_sweeps.data.factorial import BLOCK_BYTES, Factorial, FactorialOptions, factorial_dataset
from vae_sweeps.data.factors import all_combinations
from vae_sweeps.data.remembered import stamps

_FILE = "3dshapes.h5"
# The sum as in tensorflow/datasets, datasets/shapes3d/checksums.tsv.
SHAPES3D = Source(
    mirrors=("https://storage.googleapis.com/3d-shapes/",),
    sums={_FILE: "0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785"},
    served_as="plain",
)
_NAMES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
_SIZES = (10, 10, 10, 8, 4, 15)
_SIDE = 64
_MAX_CHUNK_BYTES = 1 << 28


def shapes3d(root: str | None, **options: Unpack[FactorialOptions]) -> Dataset:
    """3D Shapes in the folder `root`: 480,000 colour images of 64 x 64 pixels, of which `num_images` are used.

    The factors are the hues of floor, wall and object (10 each), scale (8), shape (4; also the label) and orientation
    (15). Raises ValueError if h5py is not installed, if the file is missing and cannot be downloaded, or if it is not
    that of 3D Shapes.
    """
    h5py = _h5py()
    path = find_or_download(root, SHAPES3D)[_FILE]
    return factorial_dataset(from_hdf5(h5py, path, _SIZES), **options)


def _h5py() -> Any:
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("data=shapes3d: needs the package h5py: pip install 'vae-sweeps[hdf5]'") from error
    return h5py


def from_hdf5(h5py: Any, path: Path, sizes: Sequence[int]) -> Factorial:
    """The images of a file in the format of 3D Shapes with these sizes of the six factors.

    Raises ValueError if the file is not such a file. Only `blocks` reads the images, a part at a time.
    """
    table, files = all_combinations(_NAMES, sizes), stamps([path]) or ()
    try:
        with h5py.File(path, "r") as file:
            values = _dataset(file, "labels", table.classes.shape)[()]
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise _refused(path, error) from error
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in values.T], axis=1)
    if not np.array_equal(ranks, table.classes):
        raise ValueError(
            f"{path}: labels are not those of 3D Shapes in its order; remove it to have it downloaded again"
        )
    return Factorial("shapes3d", table, (3, _SIDE, _SIDE), lambda: _blocks(h5py, path, len(ranks)), files)


def _blocks(h5py: Any, path: Path, num_images: int) -> Iterator[UInt8[np.ndarray, "n 3 64 64"]]:
    try:
        with h5py.File(path, "r") as file:
            images = _dataset(file, "images", (num_images, _SIDE, _SIDE, 3))
            if images.dtype != np.uint8:
                raise ValueError(f"images are {images.dtype}, expected uint8")
            # Whole chunks, if they are not too large: each is decompressed as often as it is read.
            most = _MAX_CHUNK_BYTES // (3 * _SIDE**2)
            step = images.chunks[0] if images.chunks and images.chunks[0] <= most else BLOCK_BYTES // (3 * _SIDE**2)
            for start in range(0, num_images, step):
                yield images[start : start + step].transpose(0, 3, 1, 2)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise _refused(path, error) from error


def _dataset(file: Any, name: str, shape: tuple[int, ...]) -> Any:
    found = file[name]
    if found.shape != shape:
        raise ValueError(f"{name} is of {list(found.shape)}, expected {list(shape)}")
    return found


def _refused(path: Path, error: Exception) -> ValueError:
    reason = " ".join(str(error).split()).strip("'\"")
    return ValueError(
        f"{path}: is not the file of 3D Shapes, or is damaged: {reason}; remove it to have it downloaded again"
    )
