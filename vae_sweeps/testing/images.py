"""Check a data set."""

from typing import Any

import torch

from vae_sweeps.data.arrays import as_images
from vae_sweeps.data.contract import check_range, check_splits
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.items import read_items


def check_dataset(dataset: Any, *, pixel_range: tuple[float, float] = (0.0, 1.0), channels: str = "auto") -> None:
    """Raise AssertionError, with one sentence, unless the data set can be used and reads the same twice.

    `dataset` is a map-style data set of images or (image, label), as `data=torch_dataset` takes it with `pixel_range`
    and `channels`, or a `vae_sweeps.data.Dataset`, whose own `pixel_range` counts. All items are read.
    """
    where = type(dataset).__name__
    try:
        if isinstance(dataset, Dataset):
            check_splits(dataset)
            return
        first, second = (read_items(where, dataset, channels) for _ in range(2))
        images = as_images(first["images"].numpy(), "first" if first["is_channels_first"] else channels, where)
        check_range(images, pixel_range, where)
    except ValueError as error:
        raise AssertionError(str(error)) from error
    for i, (one, other) in enumerate(zip(first["images"], second["images"], strict=True)):
        assert torch.equal(one, other), f"{where}: item {i} has other pixels when it is read again"
    labels, again = first.get("labels"), second.get("labels")
    is_same = labels is again if labels is None or again is None else torch.equal(labels, again)
    assert is_same, f"{where}: the labels are others when they are read again"
