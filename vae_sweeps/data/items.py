"""Read images, and labels, one by one: the items of a data set of PyTorch, or the rows of a table."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def read_items(where: str, items: Any, channels: str) -> dict[str, Any]:
    """`images` [N,H,W] or [N,C,H,W] of all items, and `labels` [N] if they have some, for the cache.

    `channels` says where those of arrays are: first, last or auto. Raises ValueError, in one line that begins with
    `where`, if `items` has no length, or an item is not an image like the others.
    """
    num_items = _length(where, items)
    images, labels = [], []
    for i in range(num_items):
        image, label = _item(where, items, i, num_items, channels)
        if images and (image.shape, image.dtype) != (images[0].shape, images[0].dtype):
            raise ValueError(
                f"{where}: item {i} is {image.dtype} of {list(image.shape)}, and item 0 {images[0].dtype} of "
                f"{list(images[0].shape)}; all images must be alike"
            )
        images.append(image)
        labels.append(label)
    has_label = [label is not None for label in labels]
    if any(has_label) and not all(has_label):
        raise ValueError(f"{where}: item {has_label.index(False)} has no label, and others have; all must, or none")
    found: dict[str, Any] = {
        "images": torch.from_numpy(_as_bytes(np.stack(images))),
        "is_channels_first": images[0].ndim == 3,
    }
    if labels[0] is not None:
        found["labels"] = torch.tensor(labels, dtype=torch.int64)
    return found


def stamps(value: Any) -> list[Any]:
    """The full names, sizes and times of the files at or under the path `value`; none if it is not an existing path."""
    if not isinstance(value, str) or not value or not os.path.exists(path := Path(value).expanduser()):
        return []
    files = sorted(_files(path.resolve()))
    return [str(path.resolve()), *((str(file), stat.st_size, stat.st_mtime_ns) for file, stat in files)]


def _files(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    names = [Path(folder) / name for folder, _, names in os.walk(path) for name in names] if path.is_dir() else [path]
    for name in names:
        if name.is_file():  # neither a link to nothing nor a pipe
            yield name, name.stat()


def _length(where: str, items: Any) -> int:
    if not hasattr(items, "__getitem__"):
        raise ValueError(f"{where}: has no items (__getitem__); must be a map-style data set")
    try:
        num_items = len(items)
    except Exception as error:
        raise ValueError(f"{where}: has no length (__len__): {_said(error)}; must be a map-style data set") from error
    if not num_items:
        raise ValueError(f"{where}: is empty; must have at least one image")
    return num_items


def _item(where: str, items: Any, i: int, num_items: int, channels: str) -> tuple[np.ndarray, int | None]:
    """The image of item i, [H,W] or [C,H,W], and its label."""
    try:
        item = items[i]
    except Exception as error:
        raise ValueError(f"{where}: item {i} of {num_items} cannot be read: {_said(error)}") from error
    if isinstance(item, Mapping):
        raise ValueError(f"{where}: item {i} is a dict; must be an image, or (image, label)")
    image, label = (*item, None, None)[:2] if isinstance(item, tuple | list) else (item, None)
    try:
        array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(_plain(image))
    except Exception as error:
        raise ValueError(f"{where}: item {i} cannot be made an array: {_said(error)}") from error
    is_numbers = np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_
    if not is_numbers or array.ndim not in (2, 3):
        raise ValueError(f"{where}: item {i} is {type(image).__name__} of {list(array.shape)}; must be an image")
    if array.ndim == 3 and _is_channels_last(array, channels, is_tensor=isinstance(image, Tensor)):
        array = array.transpose(2, 0, 1)
    if array.ndim == 3 and channels == "auto" and array.shape[0] not in (1, 3):
        raise ValueError(
            f"{where}: item {i} is {list(array.shape)}; must have 1 or 3 channels, "
            "or set data.channels to first or last"
        )
    return array, None if label is None else _label(where, i, label)


def _plain(image: Any) -> Any:
    """An image of PIL in grey or RGB, without palette and transparency; anything else as it is."""
    if not isinstance(image, Image.Image) or image.mode in ("1", "L", "RGB") or image.mode.startswith(("I", "F")):
        return image
    return image.convert("L" if image.mode == "LA" else "RGB")


def _is_channels_last(array: np.ndarray, channels: str, *, is_tensor: bool) -> bool:
    """Tensors have their channels first; PIL's and NumPy's images have them at the end, if there are 1 or 3."""
    return channels == "last" or (channels == "auto" and not is_tensor and array.shape[2] in (1, 3))


def _label(where: str, i: int, label: Any) -> int:
    try:
        number = float(label)
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        pass
    raise ValueError(
        f"{where}: item {i} has the label {' '.join(repr(label).split())[:40]}; must be a whole number, or no label"
    )


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _as_bytes(images: np.ndarray) -> np.ndarray:
    """Floats that are bytes divided by 255, as torchvision's ToTensor makes them, as bytes again."""
    if not np.issubdtype(images.dtype, np.floating):
        return images
    levels = images * 255
    rounded = levels.round()
    is_of_bytes = images.min() >= 0 and images.max() <= 1 and np.abs(levels - rounded).max() < 1e-3
    return rounded.astype(np.uint8) if is_of_bytes else images
