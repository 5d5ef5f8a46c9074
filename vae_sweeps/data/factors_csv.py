"""Read the factors of image files from a CSV file beside them."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vae_sweeps.data.factors import FactorTable


def read_factors(folder: Path, names: Sequence[str]) -> FactorTable | None:
    """The factors of the files `names` in `folder`, in this order; None if the folder has no factors.csv.

    The first line of factors.csv is `file` and the factors' names. Each other line is a file's name, relative to the
    folder, and its values, numbers or words. A factor's classes are the ranks of its values. Raises ValueError if the
    file cannot be read, or its rows are not those of the images.
    """
    path = folder / "factors.csv"
    if not path.is_file():
        return None
    header, rows = _read(path)
    _check_same_files(path, rows, names)
    columns = list(zip(*(rows[name] for name in names), strict=True))
    classes, sizes = [], []
    for factor, values in zip(header, columns, strict=True):
        ranks = _ranks(values)
        size = 1 + max(ranks.values())
        if 2 * size > len(values) > 1:
            raise ValueError(
                f"{path}: {factor} has {size:,} values in {len(values):,} rows; must be classes that several "
                "images share; bin its values"
            )
        classes.append([ranks[value] for value in values])
        sizes.append(size)
    return FactorTable(tuple(header), tuple(sizes), np.array(classes, np.int64).T.copy())


def _read(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The factors' names, and each file's values."""
    rows: dict[str, list[str]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            first, *header = next(reader, []) or [""]
            if first != "file" or not header or not all(map(_is_name, header)) or len(set(header)) < len(header):
                raise ValueError(
                    f"{path}: begins with {','.join([first, *header])[:60]!r}; must begin with a line of the word file "
                    "and the names of the factors, all different, such as file,shape,scale"
                )
            for row in reader:
                if not row:
                    continue
                if len(row) != 1 + len(header) or not all(row):
                    raise ValueError(
                        f"{path}: line {reader.line_num}: must be a file's name and {len(header)} values, one for each "
                        "factor"
                    )
                if row[0] in rows:
                    raise ValueError(
                        f"{path}: line {reader.line_num}: names {row[0]!r} again; must be one row per image"
                    )
                rows[row[0]] = row[1:]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read: {error}; must be a CSV file in UTF-8") from error
    return header, rows


def _is_name(text: str) -> bool:
    return text.isprintable() and text != "" and text == text.strip()


def _check_same_files(path: Path, rows: dict[str, list[str]], names: Sequence[str]) -> None:
    images = set(names)
    missing, others = sorted(images - rows.keys()), sorted(rows.keys() - images)
    if missing:
        raise ValueError(
            f"{path}: has no row for {len(missing):,} of {len(images):,} images, such as {missing[0]}; must have one "
            "row per image; add them, or rename the file to go without factors"
        )
    if others:
        raise ValueError(
            f"{path}: has {len(others):,} rows of files that are no images of data.root, such as {others[0]!r}; must "
            "have one row per image; remove them"
        )


def _ranks(values: Sequence[str]) -> dict[str, int]:
    """The rank of each different value: in the order of the numbers if all are numbers, else of the alphabet."""
    distinct = sorted(set(values))
    try:
        numbers = [float(value) for value in distinct]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        return {value: rank for rank, value in enumerate(distinct)}
    rank_of = {number: rank for rank, number in enumerate(sorted(set(numbers)))}
    return {value: rank_of[number] for value, number in zip(distinct, numbers, strict=True)}
