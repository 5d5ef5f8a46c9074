"""Check a data set."""

from typing import Any

import torch

from vae_sweeps.data.arrays import as_images
from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.items import read_items


def check_dataset(dataset: Any, *, pixel_range: tuple[float, float] = (0.0, 1.0), channels: str = "auto") -> None:
    """Raise AssertionError, with one sentence, unless the data set can be used and reads the same twice.

    `dataset` is a map-style data set of images or (image, label), as `data=torch_dataset` takes it with `pixel_range`
    and `channels`, or a `vae_sweeps.data.Dataset`, whose own `pixel_range` counts. All items are read.
    """
    if isinstance(dataset, Dataset):
        _check_splits(dataset)
        return
    where = type(dataset).__name__
    try:
        first, second = (read_items(where, dataset, channels) for _ in range(2))
        images = as_images(first["images"].numpy(), "first" if first["is_channels_first"] else channels, where)
    except ValueError as error:
        raise AssertionError(str(error)) from error
    _check_range(images, pixel_range, where)
    for i, (one, other) in enumerate(zip(first["images"], second["images"], strict=True)):
        assert torch.equal(one, other), f"{where}: item {i} has other pixels when it is read again"
    labels, again = first.get("labels"), second.get("labels")
    is_same = labels is again if labels is None or again is None else torch.equal(labels, again)
    assert is_same, f"{where}: the labels are others when they are read again"


def _check_splits(dataset: Dataset) -> None:
    for split in SPLITS:
        images = dataset.images.get(split)
        assert images is not None, f"{dataset.name}: has no images of {split}"
        assert images.ndim == 4, f"{dataset.name}: {split}: images are {list(images.shape)}, not [N,C,H,W]"
        assert len(images) > 0, f"{dataset.name}: {split}: has no image"
        is_like_train = images.shape[1:] == dataset.images["train"].shape[1:]
        assert is_like_train, f"{dataset.name}: {split}: images are {list(images.shape)}, unlike those of train"
        is_kind = images.dtype == torch.uint8 or images.is_floating_point()
        assert is_kind, f"{dataset.name}: {split}: pixels are {images.dtype}, not bytes or floats"
        _check_range(images, dataset.pixel_range, f"{dataset.name}: {split}")
        if dataset.labels is not None:
            labels = dataset.labels.get(split)
            assert labels is not None, f"{dataset.name}: {split}: has no labels, and the data set has"
            is_whole = labels.dtype == torch.int64 and labels.shape == (len(images),)
            assert is_whole, (
                f"{dataset.name}: {split}: labels are {labels.dtype} of {list(labels.shape)}, not int64 [N]"
            )
    assert dataset.fingerprint, f"{dataset.name}: has no fingerprint"


def _check_range(images: torch.Tensor, pixel_range: tuple[float, float], where: str) -> None:
    if not images.is_floating_point():
        return
    low, high = pixel_range
    assert images.isfinite().all(), f"{where}: has NaN or infinity"
    least, most = images.min().item(), images.max().item()
    is_inside = low - 1e-6 <= least and most <= high + 1e-6
    assert is_inside, f"{where}: floats from {least:g} to {most:g}, not within [{low:g},{high:g}]"
