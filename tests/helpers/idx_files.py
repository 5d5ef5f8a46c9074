"""Four small IDX files for tests: 6x6 pixels of random grey, labels 0 to 9 each as often as the others."""

import gzip
import struct
from pathlib import Path

import numpy as np

from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.idx import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from vae_sweeps.data.mnist_family import mnist

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


def load(root: Path, binarize: str = "none", seed: int = 0, binarize_seed: int = 0) -> Dataset:
    return mnist(str(root), binarize, [0, 1], seed, binarize_seed=binarize_seed)


def small(tmp_path: Path, binarize: str = "none", seed: int = 0, binarize_seed: int = 0) -> Dataset:
    root = tmp_path / "small"
    return load(root if root.exists() else write_files(root, small_arrays()), binarize, seed, binarize_seed)
