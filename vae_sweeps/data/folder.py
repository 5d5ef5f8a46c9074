"""Folders of image files: find the files, their splits and their labels."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np
from jaxtyping import Int64

from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.factors_csv import read_factors
from vae_sweeps.data.image_files import ENDINGS, Files, ImageOptions, dataset_of, existing

log = logging.getLogger(__name__)

# The folders that hold the images of a split.
_NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def image_folder(root: str | None, val_share: float, test_share: float, **options: Unpack[ImageOptions]) -> Dataset:
    """All JPEG, PNG and WebP files under `root`; a file's top folder is its class if there are at least two.

    If `root` has a folder train, it and the folders val (or valid, or validation) and test are the splits; those that
    are missing are shares of train. Otherwise val and test are shares of all files, chosen by a hash of their names.
    Each split is ordered by these hashes. A file factors.csv in `root` holds the factors of the images. Raises
    ValueError if there are no images or they cannot be used, or if factors.csv is not of these images.
    """
    folder = existing(root)
    if splits := _folders_of_splits(folder):
        files = _in_folders(folder, splits, val_share, test_share)
    else:
        files = _in_one_folder(folder, val_share, test_share)
    return dataset_of("image_folder", replace(files, factors=read_factors(folder, files.names)), options)


def _image_names(folder: Path) -> list[str]:
    """Names, relative to `folder`, of the image files under it; follows links, and leaves out hidden files."""
    names, seen = [], set()
    for current, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(current)
        if real in seen:  # such as through a link to a parent folder
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        prefix = os.path.relpath(current, folder)
        images = (name for name in files if name.lower().endswith(ENDINGS) and not name.startswith("."))
        names += images if prefix == "." else [f"{prefix}/{name}" for name in images]
    return [name.replace(os.sep, "/") for name in names]


def _by_hash(names: Sequence[str]) -> list[str]:
    """Sort names by hash: unrelated to classes and dates, and stable when other files are added or removed."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).digest())


def _images_of(folder: Path) -> list[str]:
    if names := _by_hash(_image_names(folder)):
        return names
    others = sum(len(files) for _, _, files in os.walk(folder))
    flaw = f"none of its {others} files is an image" if others else "is empty"
    raise ValueError(f"data.root={folder}: {flaw}; must have files named {', '.join(ENDINGS)}, in any subfolder")


def _folders_of_splits(folder: Path) -> dict[str, Path]:
    """The folders that are splits, by split; empty if there are none. Raises ValueError if they are no splits."""
    found = {split: [folder / name for name in names if (folder / name).is_dir()] for split, names in _NAMES.items()}
    for split, folders in found.items():
        if len(folders) > 1:
            names = " and ".join(path.name for path in folders)
            raise ValueError(
                f"data.root={folder}: has the folders {names}; must have one of them, for the split {split}"
            )
    splits = {split: folders[0] for split, folders in found.items() if folders}
    if not splits:
        return {}
    if "train" not in splits:
        names = ", ".join(path.name for path in splits.values())
        raise ValueError(
            f"data.root={folder}: has the folder {names} but no train; must have train; rename {names} if it is a class"
        )
    left_out = [path.name for path in sorted(folder.iterdir()) if path not in splits.values() and _holds_images(path)]
    if left_out:
        log.warning("data.root=%s: left out %s, beside the splits", folder, ", ".join(left_out))
    return splits


def _holds_images(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return bool(_image_names(path)) if path.is_dir() else path.name.lower().endswith(ENDINGS)


def _num_of(share: float, key: str, num_files: int) -> int:
    """The number of files in `share` of them, at least one."""
    num = max(1, round(share * num_files))
    if num >= num_files:
        raise ValueError(f"{key}={share}: leaves none of {num_files} images for training; must leave at least one")
    return num


def _in_one_folder(folder: Path, val_share: float, test_share: float) -> Files:
    names = _images_of(folder)
    num_test = _num_of(test_share, "data.test_share", len(names))
    num_val = _num_of(val_share, "data.val_share", len(names) - num_test)
    sizes = {"test": num_test, "val": num_val, "train": len(names) - num_test - num_val}
    return Files(folder, names, _splits(sizes), _classes([name.split("/")[:-1] for name in names]))


def _in_folders(folder: Path, splits: dict[str, Path], val_share: float, test_share: float) -> Files:
    """The splits of the folders; val and test are shares of train where they have none."""
    names = {split: [f"{path.name}/{name}" for name in _images_of(path)] for split, path in splits.items()}
    rest = names["train"]
    for split, share in (("test", test_share), ("val", val_share)):
        if split not in names:
            num = _num_of(share, f"data.{split}_share", len(rest))
            names[split], rest = rest[:num], rest[num:]
    names["train"] = rest
    order = ("test", "val", "train")
    sizes = {split: len(names[split]) for split in order}
    whole = [name for split in order for name in names[split]]
    return Files(folder, whole, _splits(sizes), _classes([name.split("/")[1:-1] for name in whole]))


def _splits(sizes: dict[str, int]) -> Int64[np.ndarray, " N"]:
    return np.concatenate([np.full(num, SPLITS.index(split)) for split, num in sizes.items()]).astype(np.int64)


def _classes(folders: Sequence[Sequence[str]]) -> Int64[np.ndarray, " N"] | None:
    """Each file's class number: its top folder's, by name; None if a file has no folder, or all have the same."""
    firsts = [parts[0] if parts else "" for parts in folders]
    numbers = {name: number for number, name in enumerate(sorted(set(firsts)))}
    if "" in numbers or len(numbers) < 2:
        return None
    return np.array([numbers[name] for name in firsts], np.int64)
