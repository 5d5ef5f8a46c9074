"""Make a Dataset of image files with given splits and labels."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.decoding.cache import decoded
from vae_sweeps.data.decoding.image import Transform
from vae_sweeps.data.decoding.making import OnBadFile, Source
from vae_sweeps.data.factors import FactorTable
from vae_sweeps.data.mapped import MappedOptions, mapped_dataset

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Files:
    """Image files `names` in `root`, ordered by split: `split` [N] holds indices of `SPLITS`.

    `labels` [N] are class numbers, or None; `factors` are those of the files in this order, or None.
    """

    root: Path
    names: list[str]
    split: Int64[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"] | None
    factors: FactorTable | None = None


class ImageOptions(MappedOptions):
    """Keys that all data sets of image files have; `conf/data/image_folder.yaml` explains them."""

    crop: int | str
    size: int | None
    channels: int
    resample: str
    on_bad_file: OnBadFile


def dataset_of(name: str, files: Files, options: ImageOptions) -> Dataset:
    """Make a Dataset of the files, decoding them into the cache if they are not there yet.

    Raises ValueError as `decoded` does, and if a split has no usable image.
    """
    transform = Transform(options["crop"], options["size"], options["channels"], options["resample"])
    source = Source(files.root, files.names, _stamps(files))
    cached = decoded(source, transform, options["cache"], options["on_bad_file"])
    split = files.split[cached.kept]
    for i, name_of_split in enumerate(SPLITS):
        if i not in split:
            raise ValueError(
                f"data.root={files.root}: the split {name_of_split} has no usable image; must have at least one"
            )
    labels = None if files.labels is None else files.labels[cached.kept]
    factors = None if files.factors is None else files.factors.take(cached.kept)
    return mapped_dataset(name, cached.images, cached.content, split, labels, factors, options)


def existing(root: str | None) -> Path:
    """The folder `root`. Raises ValueError if it does not exist."""
    if root is None:
        raise ValueError("data.root=null: must be the folder of the images")
    folder = Path(os.path.expanduser(root))
    if not folder.is_dir():
        flaw = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f"data.root={root}: {flaw}; must be the folder of the images")
    return folder


def _stamps(files: Files) -> list[tuple[int, int]]:
    return [_stamp(files.root / name) for name in files.names]


def _stamp(path: Path) -> tuple[int, int]:
    """The size and time of the file; zeros for a link to nothing, which decoding names with the other bad files."""
    try:
        stat = os.stat(path)
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns
