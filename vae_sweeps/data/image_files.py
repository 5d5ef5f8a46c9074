"""Make a Dataset of image files with given splits and labels."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Int64

from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.decoding.cache import Decoded, decoded
from vae_sweeps.data.decoding.image import Transform
from vae_sweeps.data.decoding.making import OnBadFile, Source

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Files:
    """Image files `names` in `root`, ordered by split: `split` [N] holds indices of `SPLITS`.

    `labels` [N] are class numbers, or None.
    """

    root: Path
    names: list[str]
    split: Int64[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"] | None


class ImageOptions(TypedDict):
    """Keys that all data sets of image files have; `conf/data/image_folder.yaml` explains them."""

    crop: int | str
    size: int | None
    channels: int
    resample: str
    pixel_range: Sequence[float]
    seed: int
    cache: str | None
    resident: bool | str
    on_bad_file: OnBadFile


def dataset_of(name: str, files: Files, options: ImageOptions) -> Dataset:
    """Make a Dataset of the files, decoding them into the cache if they are not there yet.

    Its fingerprint depends on pixels, splits and labels, not on names or locations. Raises ValueError as `decoded`
    does, and if a split has no usable image.
    """
    transform = Transform(options["crop"], options["size"], options["channels"], options["resample"])
    source = Source(files.root, files.names, _stamps(files))
    cached = decoded(source, transform, options["cache"], options["on_bad_file"])
    split_indices = files.split[cached.kept]
    images, labels = {}, {}
    all_labels = None if files.labels is None else torch.from_numpy(files.labels[cached.kept])
    for i, split in enumerate(SPLITS):
        (rows,) = np.nonzero(split_indices == i)
        if not len(rows):
            raise ValueError(f"data.root={files.root}: the split {split} has no usable image; must have at least one")
        images[split] = cached.images[rows[0] : rows[-1] + 1]
        if all_labels is not None:
            labels[split] = all_labels[rows[0] : rows[-1] + 1]
    low, high = options["pixel_range"]
    return Dataset(
        name,
        images,
        labels if all_labels is not None else None,
        _fingerprint(cached, split_indices, all_labels),
        (float(low), float(high)),
        seed=options["seed"],
        resident=options["resident"],
        is_mapped=True,
    )


def existing(root: str | None) -> Path:
    """The folder `root`. Raises ValueError if it does not exist."""
    if root is None:
        raise ValueError("data.root=null: must be the folder of the images")
    folder = Path(os.path.expanduser(root))
    if not folder.is_dir():
        flaw = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f"data.root={root}: {flaw}; must be the folder of the images")
    return folder


def _fingerprint(cached: Decoded, split_indices: np.ndarray, labels: torch.Tensor | None) -> str:
    digest = hashlib.sha256(json.dumps([cached.content, list(cached.images.shape)]).encode())
    digest.update(split_indices.astype(np.uint8).tobytes())
    if labels is not None:
        digest.update(labels.numpy().tobytes())
    return digest.hexdigest()[:16]


def _stamps(files: Files) -> list[tuple[int, int]]:
    return [_stamp(files.root / name) for name in files.names]


def _stamp(path: Path) -> tuple[int, int]:
    """The size and time of the file; zeros for a link to nothing, which decoding names with the other bad files."""
    try:
        stat = os.stat(path)
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns
