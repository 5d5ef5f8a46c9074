"""CelebA (Liu, Luo, Wang & Tang 2015) as its authors or Kaggle pack it, with its own partition."""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.decoding.cache import OnBadFile
from vae_sweeps.data.decoding.image import Transform
from vae_sweeps.data.image_files import ENDINGS, Files, dataset_of, existing

_IMAGES = ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba")
_PARTITION = ("list_eval_partition.txt", "Eval/list_eval_partition.txt", "list_eval_partition.csv")
_ATTRIBUTES = ("list_attr_celeba.txt", "Anno/list_attr_celeba.txt", "list_attr_celeba.csv")


def celeba(
    root: str | None,
    label: str | None,
    crop: int | str,
    size: int | None,
    channels: int,
    resample: str,
    pixel_range: Sequence[float],
    seed: int,
    cache: str | None,
    resident: bool | str,
    on_bad_file: OnBadFile,
) -> Dataset:
    """CelebA in the folder `root`: the official layout or Kaggle's, 162,770 faces to train, 19,867 val, 19,962 test.

    `label` names the attribute whose values (0: no, 1: yes) are the labels; None is no labels. Raises ValueError where
    a file or folder of the layout is missing, or files do not fit each other.
    """
    folder = existing(root)
    images = next((folder / name for name in _IMAGES if _has_images(folder / name)), None)
    if images is None:
        raise ValueError(f"data.root={root}: has no img_align_celeba with images; must be the unpacked CelebA")
    partition = _file(folder, _PARTITION, "data.root=DIR")
    names, split = _partition(partition)
    _check_there(images, names, partition)
    labels = None if label is None else _attribute(_file(folder, _ATTRIBUTES, "or data.label=null"), label, names)
    files = Files(images, names, split, labels)
    transform = Transform(crop, size, channels, resample)
    return dataset_of("celeba", files, transform, pixel_range, seed, cache, resident, on_bad_file)


def _has_images(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(ENDINGS) for entry in entries)


def _file(folder: Path, names: Sequence[str], instead: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"data.root={folder}: {names[0]} (or .csv) is missing; copy it there, {instead}")


def _rows(path: Path) -> Iterator[list[str]]:
    """The file's rows: of a .csv by commas, else by spaces. Raises ValueError with the path."""
    try:
        with path.open(newline="") as file:
            yield from csv.reader(file) if path.suffix == ".csv" else (line.split() for line in file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read: {error}; copy it again") from error


def _partition(path: Path) -> tuple[list[str], Int64[np.ndarray, " N"]]:
    """Files by split, train first, in the order of the file. Raises ValueError with the path."""
    names: list[list[str]] = [[], [], []]
    for number, row in enumerate(_rows(path), start=1):
        if not row or (number == 1 and path.suffix == ".csv"):
            continue
        if len(row) != 2 or row[1] not in ("0", "1", "2"):
            raise ValueError(f"{path}: line {number}: must be a file's name and 0, 1 or 2 (train, val, test)")
        names[int(row[1])].append(row[0])
    for split, found in zip(SPLITS, names, strict=True):
        if not found:
            raise ValueError(f"{path}: has no image of {split}; each split must have one; copy it again")
    return [name for found in names for name in found], np.repeat(np.arange(3), [len(found) for found in names])


def _check_there(images: Path, names: Sequence[str], partition: Path) -> None:
    with os.scandir(images) as entries:
        there = {entry.name for entry in entries}
    if missing := [name for name in names if name not in there]:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ValueError(
            f"{partition}: names {len(missing):,} of {len(names):,} images that are not in {images}: {some}; "
            "unpack all images again, or remove their lines"
        )


def _attribute(path: Path, label: str, names: Sequence[str]) -> Int64[np.ndarray, " N"]:
    """0 or 1 of each image for the attribute `label`. Raises ValueError where the file has it not."""
    rows = _rows(path)
    header = next(rows, [])
    if path.suffix == ".csv":
        header = header[1:]
    elif len(header) == 1:  # the official file begins with the number of images
        header = next(rows, [])
    if label not in header:
        known = ", ".join(header) or "none"
        raise ValueError(f"data.label={label}: no attribute of {path.name}; must be null or one of {known}")
    column, values = 1 + header.index(label), {}
    for number, row in enumerate(rows, start=2 if path.suffix == ".csv" else 3):
        if not row:
            continue
        if len(row) != 1 + len(header) or row[column] not in ("-1", "0", "1"):
            raise ValueError(
                f"{path}: line {number}: must be a file's name and {len(header)} values of -1 or 1, one an attribute; "
                "copy it again"
            )
        values[row[0]] = int(row[column] == "1")
    if missing := [name for name in names if name not in values]:
        raise ValueError(f"{path}: has no line for {len(missing):,} images, such as {missing[0]}; copy it again")
    return np.array([values[name] for name in names], np.int64)
