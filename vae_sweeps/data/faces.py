"""CelebA (Liu, Luo, Wang & Tang 2015) in the layout of its authors or of Kaggle, with its official partition."""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
from jaxtyping import Int64

from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.image_files import ENDINGS, Files, ImageOptions, dataset_of, existing

_IMAGES = ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba")
_PARTITION = ("list_eval_partition.txt", "Eval/list_eval_partition.txt", "list_eval_partition.csv")
_ATTRIBUTES = ("list_attr_celeba.txt", "Anno/list_attr_celeba.txt", "list_attr_celeba.csv")


def celeba(root: str | None, label: str | None, **options: Unpack[ImageOptions]) -> Dataset:
    """CelebA in the folder `root`, official or Kaggle layout: 162,770 faces for training, 19,867 val, 19,962 test.

    `label` names the attribute whose values (0: no, 1: yes) are the labels; None means no labels. Raises ValueError if
    a file or folder of the layout is missing, or if the files contradict each other.
    """
    folder = existing(root)
    images = next((folder / name for name in _IMAGES if _has_images(folder / name)), None)
    if images is None:
        raise ValueError(f"data.root={root}: has no img_align_celeba with images; must be the unpacked CelebA")
    partition = _file(folder, _PARTITION, "set data.root to its folder")
    names, split = _partition(partition)
    _check_present(images, names, partition)
    labels = None if label is None else _attribute(_file(folder, _ATTRIBUTES, "set data.label=null"), label, names)
    return dataset_of("celeba", Files(images, names, split, labels), options)


def _has_images(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(ENDINGS) for entry in entries)


def _file(folder: Path, names: Sequence[str], instead: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"data.root={folder}: {names[0]} (or .csv) is missing; copy it there, or {instead}")


def _rows(path: Path) -> Iterator[list[str]]:
    """The file's rows, split at commas in a .csv and at spaces otherwise. Raises ValueError with the path."""
    try:
        with path.open(newline="") as file:
            yield from csv.reader(file) if path.suffix == ".csv" else (line.split() for line in file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read: {error}; copy it again") from error


def _partition(path: Path) -> tuple[list[str], Int64[np.ndarray, " N"]]:
    """Names of files and their splits, ordered by split, train first, then as in the file. Raises ValueError."""
    names: list[list[str]] = [[], [], []]
    for number, row in enumerate(_rows(path), start=1):
        if not row or (number == 1 and path.suffix == ".csv"):
            continue
        if len(row) != 2 or row[1] not in ("0", "1", "2"):
            raise ValueError(f"{path}: line {number}: must be a file's name and 0, 1 or 2 (train, val, test)")
        names[int(row[1])].append(row[0])
    for split, group in zip(SPLITS, names, strict=True):
        if not group:
            raise ValueError(f"{path}: has no image of {split}; each split must have one; copy it again")
    return [name for group in names for name in group], np.repeat(np.arange(3), [len(group) for group in names])


def _check_present(images: Path, names: Sequence[str], partition: Path) -> None:
    with os.scandir(images) as entries:
        present = {entry.name for entry in entries}
    if missing := [name for name in names if name not in present]:
        examples = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ValueError(
            f"{partition}: names {len(missing):,} of {len(names):,} images that are not in {images}: {examples}; "
            "unpack all images again, or remove their lines"
        )


def _attribute(path: Path, label: str, names: Sequence[str]) -> Int64[np.ndarray, " N"]:
    """Each image's value of the attribute `label`, 0 or 1. Raises ValueError if the file does not have it."""
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
                f"{path}: line {number}: must be a file's name and {len(header)} values of -1 or 1, one per attribute; "
                "copy it again"
            )
        values[row[0]] = int(row[column] == "1")
    if missing := [name for name in names if name not in values]:
        raise ValueError(f"{path}: has no line for {len(missing):,} images, such as {missing[0]}; copy it again")
    return np.array([values[name] for name in names], np.int64)
