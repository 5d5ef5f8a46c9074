"""What a Dataset that other people's code returns must hold."""

import re

import torch

from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.factors import Factors


def check_splits(dataset: Dataset) -> None:
    """Raise ValueError, in one line, unless images, labels, factors and fingerprint are as `Dataset` describes them."""
    for split in SPLITS:
        where, images = f"{dataset.name}: {split}", dataset.images.get(split)
        if images is None or len(images) == 0:
            raise ValueError(f"{where}: has no images; each split must have one")
        if images.ndim != 4 or images.shape[1:] != dataset.images["train"].shape[1:]:
            raise ValueError(f"{where}: images are {list(images.shape)}; must be [N,C,H,W], and alike in all splits")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise ValueError(f"{where}: pixels are {images.dtype}; must be uint8 or floats")
        check_range(images, dataset.pixel_range, where)
        if dataset.labels is None:
            continue
        labels = dataset.labels.get(split)
        if labels is None or labels.dtype != torch.int64 or labels.shape != (len(images),):
            found = "missing" if labels is None else f"{labels.dtype} of {list(labels.shape)}"
            raise ValueError(f"{where}: labels are {found}; must be int64, one an image, or None for all splits")
    if dataset.factors is not None:
        _check_factors(dataset, dataset.factors)
    if not re.fullmatch(r"[^\s,]+", dataset.fingerprint):
        raise ValueError(
            f"{dataset.name}: the fingerprint is {dataset.fingerprint!r}; must be a text without spaces, such as "
            "vae_sweeps.data.fingerprint(images, labels)"
        )


def _check_factors(dataset: Dataset, factors: Factors) -> None:
    names, sizes = factors.names, factors.sizes
    if not names or len(set(names)) < len(names) or len(names) != len(sizes):
        raise ValueError(
            f"{dataset.name}: factors are named {list(names)} and have the sizes {list(sizes)}; must be different "
            "names, each with a size"
        )
    for split in SPLITS:
        where, classes, shape = (
            f"{dataset.name}: {split}",
            factors.classes.get(split),
            [dataset.num_images(split), len(names)],
        )
        if classes is None or classes.dtype != torch.int64 or list(classes.shape) != shape:
            found = "missing" if classes is None else f"{classes.dtype} of {list(classes.shape)}"
            raise ValueError(f"{where}: classes of the factors are {found}; must be int64 of {shape}")
        for name, size, column in zip(names, sizes, classes.T, strict=True):
            if column.min() < 0 or column.max() >= size:
                raise ValueError(
                    f"{where}: classes of {name} are {column.min()} to {column.max()}; must be from 0 to {size - 1}"
                )


def check_range(images: torch.Tensor, pixel_range: tuple[float, float], where: str) -> None:
    """Raise ValueError if images of floats are not within `pixel_range`. Bytes always are."""
    if not images.is_floating_point():
        return
    if not images.isfinite().all():
        raise ValueError(f"{where}: has NaN or infinity; pixels must be numbers")
    (low, high), least, most = pixel_range, images.min().item(), images.max().item()
    if least < low - 1e-6 or most > high + 1e-6:
        raise ValueError(f"{where}: floats from {least:g} to {most:g}; must be within [{low:g},{high:g}], or bytes")
