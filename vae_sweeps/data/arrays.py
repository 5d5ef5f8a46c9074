"""Images that are already arrays: shapes, pixel values and splits, and data sets of NumPy's files."""

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor

from vae_sweeps.data.dataset import SPLITS, Dataset, fingerprint, with_fixed_bits
from vae_sweeps.data.remembered import stamps
from vae_sweeps.system.rng import generator

# The names under which an .npz holds images and labels, without and with the name of a split: x_train, train_labels.
_IMAGES, _LABELS = ("images", "x", "imgs", "arr_0"), ("labels", "y", "targets", "arr_1")
OF_SPLIT = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


class ArrayOptions(TypedDict):
    """Keys that data sets of arrays have; `conf/data/numpy.yaml` explains them."""

    val_share: float
    test_share: float
    binarize: str
    binarize_seed: int
    pixel_range: Sequence[float]
    seed: int


def numpy(path: str | None, channels: str, **options: Unpack[ArrayOptions]) -> Dataset:
    """The images of an .npy file, or images and labels, and perhaps their splits, of an .npz.

    Images are [N,H,W], [N,H,W,C] or [N,C,H,W] with 1 or 3 channels: uint8, bool, or floats within `pixel_range`.
    `channels` is first, last or auto. Raises ValueError if there are no such images.
    """
    if path is None:
        raise ValueError("data.path=null: must be an .npy or .npz file with images")
    file = Path(os.path.expanduser(path))
    files = stamps([file])
    splits = {
        split: (as_images(images, channels, f"{file}: {split}"), None if labels is None else as_labels(labels, file))
        for split, (images, labels) in _arrays_of(file).items()
    }
    return replace(dataset_of(f"numpy {file.stem}", splits, str(file), options), files=files)


def _arrays_of(file: Path) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Images and labels by split; all under "all" if the file has no splits."""
    try:
        content = np.load(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise ValueError(f"data.path={file}: does not exist; must be an .npy or .npz file with images") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"data.path={file}: cannot be read as NumPy's file, without pickled objects: {reason}"
        ) from error
    if isinstance(content, np.ndarray):
        return {"all": (content, None)}
    with content:
        try:
            names = content.files
            if images := _first(names, _IMAGES):
                labels = _first(names, _LABELS)
                return {"all": (content[images], content[labels] if labels else None)}
            found = {}
            for split, words in OF_SPLIT.items():
                images = _first(
                    names, [f for word in words for name in _IMAGES for f in (f"{name}_{word}", f"{word}_{name}")]
                )
                labels = _first(
                    names, [f for word in words for name in _LABELS for f in (f"{name}_{word}", f"{word}_{name}")]
                )
                if images:
                    found[split] = (content[images], content[labels] if labels else None)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
            raise ValueError(f"data.path={file}: cannot be read: {' '.join(str(error).split())}") from error
    if "train" not in found:
        raise ValueError(
            f"data.path={file}: has the arrays {', '.join(names) or 'none'}; must have {' or '.join(_IMAGES)}, or one "
            f"for each split, such as x_train and x_test; labels are {' or '.join(_LABELS)}"
        )
    return found


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def as_images(array: np.ndarray, channels: str, where: str) -> Tensor:
    """The array as a tensor [N,C,H,W] of bytes or floats. Raises ValueError if it is no array of images."""
    shape = "x".join(map(str, array.shape))
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4:
        is_first, is_last = array.shape[1] in (1, 3), array.shape[3] in (1, 3)
        if channels == "auto" and is_first == is_last:
            flaw = "both" if is_first else "neither"
            raise ValueError(
                f"{where}: {shape}: {flaw} of the second and the last dimension may be the channels, 1 or 3; "
                "set data.channels to first or last"
            )
        if channels == "last" or (channels == "auto" and is_last):
            array = array.transpose(0, 3, 1, 2)
    else:
        raise ValueError(f"{where}: is {shape}; images must be [N,H,W], [N,H,W,C] or [N,C,H,W]")
    if not array.size:
        raise ValueError(f"{where}: is {shape}; must have at least one image")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{where}: is {array.dtype}; must be uint8, bool or floating-point numbers")
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(array))


def as_labels(array: np.ndarray, where: object) -> Tensor:
    """Class numbers as int64 [N]. Raises ValueError if they are none."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"{where}: labels are {array.dtype} of {list(array.shape)}; must be whole numbers, one an image"
        )
    return torch.from_numpy(array.astype(np.int64))


def dataset_of(
    name: str, splits: Mapping[str, tuple[Tensor, Tensor | None]], where: str, options: ArrayOptions
) -> Dataset:
    """A Dataset of images and labels by split. What is missing of val and test are shares of train, drawn once.

    Raises ValueError if the splits do not fit each other, or the pixels the range.
    """
    images = {split: x for split, (x, _) in splits.items()}
    labels = {split: y for split, (_, y) in splits.items() if y is not None}
    if labels and (without := images.keys() - labels.keys()):
        raise ValueError(f"{where}: {', '.join(sorted(without))} has no labels, and others have; all must, or none")
    for split, numbers in labels.items():
        if len(numbers) != len(images[split]):
            raise ValueError(
                f"{where}: {len(numbers)} labels for {len(images[split])} images of {split}; must be equal"
            )
    if "all" in images:
        images, labels = {"train": images["all"]}, {"train": labels["all"]} if labels else {}
    shapes = {split: tuple(x.shape[1:]) for split, x in images.items()}
    if len(set(shapes.values())) > 1 or len({x.dtype for x in images.values()}) > 1:
        raise ValueError(f"{where}: images of {shapes} and {[str(x.dtype) for x in images.values()]}; must be equal")
    low, high = map(float, options["pixel_range"])
    for split, x in images.items():
        if x.is_floating_point():
            _check_range(x, low, high, f"{where}: {split}")
    _share_out(images, labels, options, where)
    if options["binarize"] != "none" and images["train"].is_floating_point():
        raise ValueError(f"data.binarize={options['binarize']}: must be none for images of floats; store them as bytes")
    dataset = Dataset(
        name,
        {split: images[split] for split in SPLITS},
        {split: labels[split] for split in SPLITS} if labels else None,
        fingerprint(images, labels or None),
        (low, high),
        options["binarize"],
        options["seed"],
        binarize_seed=options["binarize_seed"],
    )
    return with_fixed_bits(dataset)


def _check_range(x: Tensor, low: float, high: float, where: str) -> None:
    if not x.isfinite().all():
        raise ValueError(f"{where}: has NaN or infinity; pixels must be numbers")
    least, most = x.min().item(), x.max().item()
    if least < low - 1e-6 or most > high + 1e-6:
        raise ValueError(
            f"{where}: floats from {least:g} to {most:g}; must be within data.pixel_range=[{low:g},{high:g}], or bytes"
        )
    if low < 0 <= least:
        raise ValueError(
            f"{where}: floats from {least:g} to {most:g}, none below 0; with data.pixel_range=[{low:g},{high:g}] they "
            f"must be on that scale; set data.pixel_range=[0,1], or scale them to [{low:g},{high:g}]"
        )


def _share_out(images: dict[str, Any], labels: dict[str, Any], options: ArrayOptions, where: str) -> None:
    """Take val and test from train, where they are missing, in an order that depends on the number of images."""
    num_images = len(images["train"])
    order = torch.randperm(num_images, generator=generator("shares", num_images))
    taken = 0
    for split in ("test", "val"):
        if split in images:
            continue
        share = options["test_share"] if split == "test" else options["val_share"]
        num = max(1, round(share * num_images))
        if taken + num >= num_images:
            raise ValueError(
                f"data.{split}_share={share:g}: leaves none of {num_images} images of {where} for training"
            )
        rows = order[taken : taken + num]
        images[split], taken = images["train"][rows], taken + num
        if labels:
            labels[split] = labels["train"][rows]
    if taken:
        rows = order[taken:]
        images["train"] = images["train"][rows]
        if labels:
            labels["train"] = labels["train"][rows]
