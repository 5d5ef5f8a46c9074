"""Four small IDX files for tests: 6x6 pixels of random grey, labels 0 to 9 each as often as the others."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np

from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.idx import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from vae_sweeps.data.mnist_family import DigitOptions, mnist

NUM_TRAIN, NUM_TEST, SIZE = 120, 40, 6


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def small_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for images, labels, num in ((TRAIN_IMAGES, TRAIN_LABELS, NUM_TRAIN), (TEST_IMAGES, TEST_LABELS, NUM_TEST)):
        arrays[images] = rng.integers(0, 256, (num, SIZE, SIZE), dtype=np.uint8)
        arrays[labels] = rng.permutation(np.arange(num) % 10).astype(np.uint8)
    return arrays


def write_files(folder: Path, arrays: dict[str, np.ndarray], *, zipped: bool = False) -> Path:
    folder.mkdir()
    for name, array in arrays.items():
        content = idx_bytes(array)
        (folder / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(content) if zipped else content)
    return folder


def options(**changed: Any) -> DigitOptions:
    """The keys of a data set of digits, grey unless `changed`."""
    grey = {"binarize": "none", "binarize_seed": 0, "pixel_range": [0, 1], "seed": 0, "train_on": "train"}
    return DigitOptions(**{**grey, **changed})


def load(root: Path, **changed: Any) -> Dataset:
    return mnist(str(root), **options(**changed))


def small(tmp_path: Path, **changed: Any) -> Dataset:
    root = tmp_path / "small"
    return load(root if root.exists() else write_files(root, small_arrays()), **changed)
