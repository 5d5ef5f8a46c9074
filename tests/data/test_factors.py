"""Factors of the user's own data: factors.csv beside images, and Datasets that other code returns."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import make_dataset
from tests.helpers.image_files import load_folder, write
from vae_sweeps.data import Factors, fingerprint
from vae_sweeps.data.contract import check_splits
from vae_sweeps.data.dataset import SPLITS, Dataset

NAMES = [f"{kind}/{i}.png" for kind in ("a", "b") for i in range(20)]
GREYS = {name: 3 * i for i, name in enumerate(NAMES)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Forty images of one colour each."""
    write(tmp_path / "images", NAMES)
    for name, grey in GREYS.items():
        Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(tmp_path / "images" / name)
    return tmp_path / "images"


def write_csv(root: Path, lines: list[str]) -> Path:
    (root / "factors.csv").write_text("\n".join(lines) + "\n")
    return root


def rows() -> list[str]:
    """Rows in another order than that of the names; the size is a number, the kind a word."""
    return [f"{name},{10 * (i % 3)},{'xyxxz'[i % 5]}" for i, name in reversed(list(enumerate(NAMES)))]


def test_each_image_has_the_classes_of_its_row(root: Path, tmp_path: Path) -> None:
    dataset = load_folder(write_csv(root, ["file,size,kind", *rows()]), tmp_path / "cache", size=8)
    factors = dataset.factors
    assert factors is not None
    assert (factors.names, factors.sizes) == (("size", "kind"), (3, 3))
    seen = 0
    for split in SPLITS:
        for image, (size, kind) in zip(dataset.images[split], factors.classes[split].tolist(), strict=True):
            i = int(image.unique().item()) // 3
            assert (size, "xyz"[kind]) == (i % 3, "xyxxz"[i % 5])
            seen += 1
    assert seen == len(NAMES)
    check_splits(dataset)


def test_numbers_are_ordered_as_numbers(root: Path, tmp_path: Path) -> None:
    """Not as words: 9 is less than 10, and 1 and 1.0 are equal."""
    values = ["10", "9", "1.0", "1"]
    lines = [f"{name},{values[i % 4]}" for i, name in enumerate(NAMES)]
    factors = load_folder(write_csv(root, ["file,size", *lines]), tmp_path / "cache", size=8).factors
    assert factors is not None
    assert factors.sizes == (3,)
    assert sorted(torch.cat([factors.classes[split] for split in SPLITS]).flatten().tolist()) == sorted(
        [2, 1, 0, 0] * 10
    )


def test_factors_are_part_of_the_fingerprint_only_if_there_are_some(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    without = load_folder(root, cache, size=8)
    assert without.factors is None
    one = load_folder(write_csv(root, ["file,size,kind", *rows()]), cache, size=8)
    other = load_folder(write_csv(root, ["file,size,sort", *rows()]), cache, size=8)
    changed = load_folder(
        write_csv(root, ["file,size,kind", *rows()[1:], rows()[0].replace(",z", ",y")]), cache, size=8
    )
    assert len({dataset.fingerprint for dataset in (without, one, other, changed)}) == 4
    (root / "factors.csv").unlink()
    assert load_folder(root, cache, size=8).fingerprint == without.fingerprint


def test_skipped_images_have_no_factors(root: Path, tmp_path: Path) -> None:
    write_csv(root, ["file,size,kind", *rows()])
    (root / NAMES[7]).write_bytes(b"damaged")
    dataset = load_folder(root, tmp_path / "cache", size=8, on_bad_file="skip")
    assert dataset.factors is not None
    for split in SPLITS:
        expected = [int(image.unique().item()) // 3 % 3 for image in dataset.images[split]]
        assert dataset.factors.classes[split][:, 0].tolist() == expected


BAD = {
    "a row too few": (lambda: ["file,size,kind", *rows()[1:]], r"has no row for 1 of 40 images, such as b/19\.png"),
    "a row too many": (
        lambda: ["file,size,kind", *rows(), "c.png,0,x"],
        r"1 rows of files that are no images .*c\.png",
    ),
    "a row twice": (lambda: ["file,size,kind", *rows(), rows()[0]], r"line 42: names 'b/19\.png' again"),
    "no header": (rows, "must begin with a line of the word file"),
    "no factor": (lambda: ["file", *NAMES], "must begin with a line of the word file"),
    "two factors of one name": (lambda: ["file,size,size", *rows()], "all different"),
    "a name of two lines": (
        lambda: ['file,"si', 'ze"', *(row.rpartition(",")[0] for row in rows())],
        "must begin with",
    ),
    "a row of two lines": (lambda: ["file,size,kind", *rows(), '"c', '",0,x'], r"no images .*, such as 'c\\n'"),
    "a missing value": (lambda: ["file,size,kind", *rows()[1:], f"{NAMES[-1]},1,"], "line 41: must be a file's name"),
    "a continuous factor": (
        lambda: ["file,x", *(f"{name},{i / 7}" for i, name in enumerate(NAMES))],
        "x has 40 values in 40 rows; must be classes",
    ),
    "an open quote": (lambda: ["file,size,kind", *rows()[1:], f'{NAMES[-1]},1,"x'], "cannot be read: unexpected end"),
    "nothing": (lambda: [""], "must begin with"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_factors_csv_is_refused(root: Path, tmp_path: Path, case: str) -> None:
    lines, message = BAD[case]
    write_csv(root, lines())
    with pytest.raises(ValueError, match=message) as error:
        load_folder(root, tmp_path / "cache", size=8)
    assert str(error.value).startswith(f"{root / 'factors.csv'}: ")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "cache").exists()


def test_other_rows_than_images_are_one_line_of_the_command(refused, root: Path) -> None:
    write_csv(root, ["file,size,kind", *rows()[1:]])
    line = refused("data=image_folder", f"data.root={root}", "data.size=8")
    assert line == (
        f"{root / 'factors.csv'}: has no row for 1 of 40 images, such as b/19.png; must have one row per image; add "
        "them, or rename the file to go without factors"
    )


# Datasets of other code


def with_factors(**changes: object) -> Dataset:
    dataset = make_dataset()
    classes = {split: torch.stack([torch.arange(dataset.num_images(split)) % 3] * 2, 1) for split in SPLITS}
    return replace(dataset, factors=replace(Factors(("a", "b"), (3, 3), classes), **changes))


def test_factors_as_the_contract_says_are_accepted() -> None:
    check_splits(with_factors())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("a", "a")}, "different names"),
        ({"sizes": (3,)}, "each with a size"),
        ({"sizes": (3, 2)}, "classes of b are 0 to 2; must be from 0 to 1"),
        ({"classes": {}}, r"train: classes of the factors are missing; must be int64 of \[70, 2\]"),
        ({"classes": {"train": torch.zeros(70, 2)}}, "are torch.float32"),
        ({"classes": {"train": torch.zeros(69, 2, dtype=torch.int64)}}, r"of \[69, 2\]; must be int64 of \[70, 2\]"),
    ],
)
def test_other_factors_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_splits(with_factors(**changes))


@pytest.mark.parametrize(
    "change",
    [
        lambda f: replace(f, names=("a", "c")),
        lambda f: replace(f, sizes=(3, 4)),
        lambda f: replace(f, classes=dict(f.classes) | {"val": 1 - f.classes["val"] % 2}),
    ],
    ids=["name", "size", "class"],
)
def test_a_fingerprint_tells_factors_apart(change: Callable[[Factors], Factors]) -> None:
    dataset = with_factors()
    assert dataset.factors is not None
    same = replace(dataset.factors, classes=dict(reversed(list(dataset.factors.classes.items()))))
    first = fingerprint(dataset.images, None, dataset.factors)
    assert fingerprint(dataset.images, None, same) == first
    assert first != fingerprint(dataset.images, None)
    assert fingerprint(dataset.images, None, change(dataset.factors)) != first
