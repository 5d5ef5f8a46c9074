"""The files of MNIST, read with numpy: uint8 [N,1,28,28] for each split, of the sizes that vae_sweeps has."""

import gzip
from pathlib import Path

import numpy as np

NUM_VAL = 5_000


def _images(root: Path, name: str) -> np.ndarray:
    plain = root / name
    data = plain.read_bytes() if plain.exists() else gzip.decompress((root / f"{name}.gz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=16).reshape(-1, 1, 28, 28)


def splits(root: str) -> dict[str, np.ndarray]:
    """55,000 digits for training, 5,000 val, 10,000 test. The 5,000 are the last, not those that vae_sweeps draws."""
    images = _images(Path(root), "train-images-idx3-ubyte")
    test = _images(Path(root), "t10k-images-idx3-ubyte")
    return {"train": images[:-NUM_VAL], "val": images[-NUM_VAL:], "test": test}
