"""Folders of image files: finding them, their splits and their labels."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.decoding.cache import OnBadFile
from vae_sweeps.data.decoding.image import Transform
from vae_sweeps.data.image_files import ENDINGS, Files, dataset_of, existing


def image_folder(
    root: str | None,
    crop: int | str,
    size: int | None,
    channels: int,
    resample: str,
    val_share: float,
    test_share: float,
    pixel_range: Sequence[float],
    seed: int,
    cache: str | None,
    resident: bool | str,
    on_bad_file: OnBadFile,
) -> Dataset:
    """All JPEG, PNG and WebP files under `root`; a file's first folder is its class where there are at least two.

    If `root` has folders train and test, these are the splits; val is a folder too, or taken from train. Otherwise val
    and test are shares of all files, chosen by a hash of their names. Each split's order is that of these hashes.
    Raises ValueError where there are no images, or they cannot be used.
    """
    folder = existing(root)
    files = _in_three_folders(folder, val_share) if _is_split(folder) else _in_one_folder(folder, val_share, test_share)
    transform = Transform(crop, size, channels, resample)
    return dataset_of("image_folder", files, transform, pixel_range, seed, cache, resident, on_bad_file)


def _image_names(folder: Path) -> list[str]:
    """Image files under `folder`, also through links, as names relative to it; hidden ones are left out."""
    names, seen = [], set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        prefix = os.path.relpath(here, folder)
        wanted = (name for name in files if name.lower().endswith(ENDINGS) and not name.startswith("."))
        names += wanted if prefix == "." else [f"{prefix}/{name}" for name in wanted]
    return [name.replace(os.sep, "/") for name in names]


def _by_hash(names: Sequence[str]) -> list[str]:
    """The names in an order that has nothing to do with classes or dates, and stays when others come or go."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).digest())


def _found(folder: Path) -> list[str]:
    if names := _by_hash(_image_names(folder)):
        return names
    others = sum(len(files) for _, _, files in os.walk(folder))
    flaw = f"none of its {others} files is an image" if others else "is empty"
    raise ValueError(f"data.root={folder}: {flaw}; must have files named {', '.join(ENDINGS)}, in any folders")


def _is_split(folder: Path) -> bool:
    return all((folder / split).is_dir() for split in ("train", "test"))


def _num_of(share: float, key: str, num_files: int) -> int:
    """`share` of the files, and at least one."""
    num = max(1, round(share * num_files))
    if num >= num_files:
        raise ValueError(f"{key}={share}: leaves none of {num_files} images to train; must leave one")
    return num


def _in_one_folder(folder: Path, val_share: float, test_share: float) -> Files:
    names = _found(folder)
    num_test = _num_of(test_share, "data.test_share", len(names))
    num_val = _num_of(val_share, "data.val_share", len(names) - num_test)
    sizes = {"test": num_test, "val": num_val, "train": len(names) - num_test - num_val}
    return Files(folder, names, _splits(sizes), _classes([name.split("/")[:-1] for name in names]))


def _in_three_folders(folder: Path, val_share: float) -> Files:
    found = {split: _found(folder / split) for split in SPLITS if (folder / split).is_dir()}
    num_val = len(found["val"]) if "val" in found else _num_of(val_share, "data.val_share", len(found["train"]))
    sizes = {"test": len(found["test"]), "val": num_val}
    order = ["test", *(["val"] if "val" in found else []), "train"]
    names = [f"{split}/{name}" for split in order for name in found[split]]
    sizes["train"] = len(names) - sum(sizes.values())
    return Files(folder, names, _splits(sizes), _classes([name.split("/")[1:-1] for name in names]))


def _splits(sizes: dict[str, int]) -> Int64[np.ndarray, " N"]:
    return np.concatenate([np.full(num, SPLITS.index(split)) for split, num in sizes.items()]).astype(np.int64)


def _classes(folders: Sequence[Sequence[str]]) -> Int64[np.ndarray, " N"] | None:
    """Each file's class by its first folder, in the order of names; None if a file has none, or all have the same."""
    firsts = [parts[0] if parts else "" for parts in folders]
    numbers = {name: number for number, name in enumerate(sorted(set(firsts)))}
    if "" in numbers or len(numbers) < 2:
        return None
    return np.array([numbers[name] for name in firsts], np.int64)
