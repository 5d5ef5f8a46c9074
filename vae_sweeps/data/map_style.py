"""Data sets of other people's code: anything with a length and items, such as those of torchvision."""

from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from vae_sweeps.config import source, trust
from vae_sweeps.config.targets import instantiate_target
from vae_sweeps.data.arrays import ArrayOptions, as_images, as_labels, dataset_of
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.system import cache


def torch_dataset(
    dataset: Mapping[str, Any],
    val_dataset: Mapping[str, Any] | None,
    test_dataset: Mapping[str, Any] | None,
    version: str,
    channels: str,
    **options: Unpack[ArrayOptions],
) -> Dataset:
    """The images, and labels, of a map-style data set of the user's choice, read once into the cache.

    Items are images or (image, label, ...): PIL's, arrays or tensors of bytes, or of floats in [0,1]. `version` is any
    text; another one reads the data set again. Raises ValueError if it has no length, or an item that is no image.
    """
    named = {"train": dataset, "val": val_dataset, "test": test_dataset}
    used = {
        split: config for split, config in named.items() if config is not None and config.get("_target_") is not None
    }
    if "train" not in used:
        raise ValueError("data.dataset._target_=null: must be the full dotted name of a data set, as in my_data.Shapes")
    splits = {}
    for split, config in used.items():
        target = str(config["_target_"])
        recipe = {
            "dataset": {name: str(value) for name, value in config.items()},
            "source": source.digest(trust.targets_in(config)),
            "version": version,
        }
        read = cache.once("dataset", recipe, lambda config=config, target=target: _read(target, config))
        images = as_images(read["images"].numpy(), "first" if read["is_channels_first"] else channels, target)
        labels = as_labels(read["labels"].numpy(), target) if "labels" in read else None
        splits[split] = (images, labels)
    name = str(used["train"]["_target_"]).rpartition(".")[2]
    return dataset_of(name, splits, str(used["train"]["_target_"]), options)


def _read(target: str, config: Mapping[str, Any]) -> dict[str, Any]:
    items = instantiate_target(config)
    try:
        num_items = len(items)
    except TypeError as error:
        raise ValueError(f"{target}: has no length (__len__); must be a map-style data set") from error
    if not num_items:
        raise ValueError(f"{target}: is empty; must have at least one image")
    images, labels = [], []
    for i in range(num_items):
        image, label = _item(target, items, i)
        if images and (image.shape, image.dtype) != (images[0].shape, images[0].dtype):
            raise ValueError(
                f"{target}: item {i} is {image.dtype} of {list(image.shape)}, and item 0 {images[0].dtype} of "
                f"{list(images[0].shape)}; all images must be alike"
            )
        images.append(image)
        labels.append(label)
    if any(label is None for label in labels) != all(label is None for label in labels):
        raise ValueError(f"{target}: only some items have labels; all must, or none")
    found: dict[str, Any] = {
        "images": torch.from_numpy(_as_bytes(np.stack(images))),
        "is_channels_first": images[0].ndim == 3,
    }
    if labels[0] is not None:
        found["labels"] = torch.tensor(labels, dtype=torch.int64)
    return found


def _item(target: str, items: Any, i: int) -> tuple[np.ndarray, int | None]:
    """The image of item i, [H,W] or [C,H,W], and its label."""
    try:
        item = items[i]
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"{target}: item {i} of {len(items)} cannot be read: {reason}") from error
    image, label = (item[0], item[1] if len(item) > 1 else None) if isinstance(item, tuple | list) else (item, None)
    is_tensor = isinstance(image, Tensor)
    array = image.detach().cpu().numpy() if is_tensor else np.asarray(image)
    if array.dtype == object or array.ndim not in (2, 3):
        raise ValueError(f"{target}: item {i} is {type(image).__name__} of {list(array.shape)}; must be an image")
    if array.ndim == 3 and not is_tensor and array.shape[2] in (1, 3):
        array = array.transpose(2, 0, 1)  # PIL's and NumPy's images have their channels at the end
    if label is not None:
        try:
            label = int(label)
        except (TypeError, ValueError):
            label = None
    return array, label


def _as_bytes(images: np.ndarray) -> np.ndarray:
    """Floats that are bytes divided by 255, as torchvision's ToTensor makes them, as bytes again."""
    if not np.issubdtype(images.dtype, np.floating):
        return images
    levels = images * 255
    rounded = levels.round()
    is_of_bytes = images.min() >= 0 and images.max() <= 1 and np.abs(levels - rounded).max() < 1e-3
    return rounded.astype(np.uint8) if is_of_bytes else images
