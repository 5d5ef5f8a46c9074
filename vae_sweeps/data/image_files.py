"""Image files of given splits and labels as a Dataset."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.decoding.cache import Decoded, OnBadFile, Source, decoded
from vae_sweeps.data.decoding.image import Transform

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Files:
    """Image files `names` in `root`, those of each split in a row: `split` [N] holds indices of `SPLITS`.

    `labels` [N] are numbers of classes, or None.
    """

    root: Path
    names: list[str]
    split: Int64[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"] | None


def dataset_of(
    name: str,
    files: Files,
    transform: Transform,
    pixel_range: Sequence[float],
    seed: int,
    cache: str | None,
    resident: bool | str,
    on_bad_file: OnBadFile,
) -> Dataset:
    """The files as a Dataset, decoded into the cache if they are not yet.

    Its fingerprint is of pixels, splits and labels, not of names or places. Raises ValueError as `decoded` does, and
    where a split is left without images.
    """
    found = decoded(Source(files.root, files.names, _stamps(files)), transform, cache, on_bad_file)
    split = files.split[found.kept]
    images, labels = {}, {}
    numbers = None if files.labels is None else torch.from_numpy(files.labels[found.kept])
    for i, one in enumerate(SPLITS):
        (rows,) = np.nonzero(split == i)
        if not len(rows):
            raise ValueError(f"data.root={files.root}: no image of the split {one} can be used; it must have one")
        images[one] = found.images[rows[0] : rows[-1] + 1]
        if numbers is not None:
            labels[one] = numbers[rows[0] : rows[-1] + 1]
    low, high = pixel_range
    return Dataset(
        name,
        images,
        labels if numbers is not None else None,
        _fingerprint(found, split, numbers),
        (float(low), float(high)),
        seed=seed,
        resident=resident,
        is_mapped=True,
    )


def existing(root: str | None) -> Path:
    """The folder `root`. Raises ValueError where there is none."""
    if root is None:
        raise ValueError("data.root=null: must be the folder of the images")
    folder = Path(os.path.expanduser(root))
    if not folder.is_dir():
        flaw = "is a file" if folder.exists() else "is not there"
        raise ValueError(f"data.root={root}: {flaw}; must be the folder of the images")
    return folder


def _fingerprint(found: Decoded, split: np.ndarray, labels: torch.Tensor | None) -> str:
    digest = hashlib.sha256(json.dumps([found.content, list(found.images.shape)]).encode())
    digest.update(split.astype(np.uint8).tobytes())
    if labels is not None:
        digest.update(labels.numpy().tobytes())
    return digest.hexdigest()[:16]


def _stamps(files: Files) -> list[tuple[int, int]]:
    found = (os.stat(files.root / name) for name in files.names)
    return [(stat.st_size, stat.st_mtime_ns) for stat in found]
