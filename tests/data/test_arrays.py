"""Data sets of NumPy's files and of other people's classes: the pixels that went in, and one line for a mistake."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import make_point
from vae_sweeps.config import trust
from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.items import stamps
from vae_sweeps.data.load import load_dataset

GREY = np.random.default_rng(0).integers(0, 256, (40, 4, 4), np.uint8)
CODE = """
import abc
import torch
from PIL import Image
import numpy as np

ARRAY = np.load({path!r})

class Plain:
    def __init__(self, kind="tensor", split="all", broken=None):
        self.kind, self.broken = kind, broken
        self.images = ARRAY if split == "all" else ARRAY[:10]
    def __len__(self):
        return len(self.images)
    def __getitem__(self, i):
        if i == self.broken:
            raise OSError("cannot\\nread")
        if self.kind == "odd" and i == 7:
            return torch.from_numpy(self.images[i, :3])[None]
        if self.kind == "pil":
            return Image.fromarray(self.images[i]), i % 5
        if self.kind == "float":
            return torch.from_numpy(self.images[i])[None].float() / 255, i % 5
        if self.kind == "palette":
            return Image.fromarray(np.stack([self.images[i]] * 3, -1)).convert("P")
        if self.kind == "four":
            return np.stack([self.images[i]] * 5, -1)
        if self.kind == "words":
            return self.images[i], "seven"
        if self.kind == "half":
            return (self.images[i], i) if i < 5 else self.images[i]
        if self.kind == "not_a_number":
            return torch.full((1, 4, 4), float("nan"))
        if self.kind == "text":
            return "an image"
        return torch.from_numpy(self.images[i])[None], torch.tensor(i % 5)

class NoLength:
    def __getitem__(self, i):
        return ARRAY[i]

class Abstract(abc.ABC, Plain):
    @abc.abstractmethod
    def __getitem__(self, i): ...

class Empty(Plain):
    def __len__(self):
        return 0
"""


def numpy_data(path: Path, **options: Any) -> Dataset:
    keys = [f"data.{name}={value}" for name, value in options.items()]
    return load_dataset(make_point("data=numpy", f"data.path={path}", *keys).data)


def all_images(dataset: Dataset) -> set[bytes]:
    return {image.numpy().tobytes() for split in SPLITS for image in dataset.images[split]}


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (GREY, (1, 4, 4)),
        (GREY[:, None], (1, 4, 4)),
        (GREY[..., None], (1, 4, 4)),
        (np.stack([GREY] * 3, -1), (3, 4, 4)),
        (np.stack([GREY] * 3, 1), (3, 4, 4)),
        (GREY > 127, (1, 4, 4)),
        (GREY.astype(np.float64) / 255, (1, 4, 4)),
    ],
)
def test_an_npy_file_has_the_images_that_went_in(array: np.ndarray, shape: tuple, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    dataset = numpy_data(tmp_path / "x.npy")
    assert dataset.image_shape == shape
    assert [dataset.num_images(split) for split in SPLITS] == [32, 4, 4]
    if array.dtype == np.uint8:
        expected = {image.reshape(-1, 4, 4) if image.ndim == 2 else image for image in []}
        first = array.reshape(40, *shape) if array.shape[-1] != 3 and array.ndim < 5 else array.transpose(0, 3, 1, 2)
        expected = {np.ascontiguousarray(image).tobytes() for image in first.reshape(40, *shape)}
        assert all_images(dataset) == expected
    assert dataset.describe().startswith("numpy x: 32 train, 4 val, 4 test images of")


def test_an_npz_keeps_each_label_and_its_splits(tmp_path: Path) -> None:
    labels = np.arange(40)
    np.savez(tmp_path / "all.npz", images=GREY, labels=labels)
    dataset = numpy_data(tmp_path / "all.npz")
    assert dataset.labels is not None
    for split in SPLITS:
        for image, label in zip(dataset.images[split], dataset.labels[split], strict=True):
            assert np.array_equal(image[0].numpy(), GREY[label])
    np.savez(tmp_path / "split.npz", x_train=GREY[:20], y_train=labels[:20], x_test=GREY[20:], y_test=labels[20:])
    split = numpy_data(tmp_path / "split.npz", val_share=0.25)
    assert [split.num_images(name) for name in SPLITS] == [15, 5, 20]
    assert np.array_equal(split.images["test"][:, 0].numpy(), GREY[20:])


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", GREY)
    np.save(tmp_path / "b.npy", GREY.copy())
    changed = GREY.copy()
    changed[0, 0, 0] ^= 1
    np.save(tmp_path / "c.npy", changed)
    a, b, c = (numpy_data(tmp_path / f"{name}.npy").fingerprint for name in "abc")
    assert a == b != c


BAD_ARRAYS = {
    "floats out of range": (GREY.astype(np.float32), "floats from 0 to 255; must be within data.pixel_range"),
    "NaN": (np.full((5, 2, 2), np.nan), "has NaN or infinity"),
    "two dimensions": (GREY[0], "images must be [N,H,W]"),
    "ambiguous": (np.zeros((5, 3, 4, 3), np.uint8), "both of the second and the last dimension"),
    "no channels": (np.zeros((5, 4, 4, 4), np.uint8), "neither of the second and the last"),
    "whole numbers": (GREY.astype(np.int32), "is int32; must be uint8"),
    "objects": (np.array([None, {}]), "without pickled objects"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_an_array_that_cannot_be_used_is_one_line(kind: str, tmp_path: Path) -> None:
    array, expected = BAD_ARRAYS[kind]
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        numpy_data(tmp_path / "x.npy")
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_without_images_names_what_it_has(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", pictures=GREY)
    with pytest.raises(ValueError, match="has the arrays pictures; must have images or x"):
        numpy_data(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="does not exist"):
        numpy_data(tmp_path / "y.npz")


@pytest.fixture
def module(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of data sets, with a name that no other test has imported."""
    np.save(tmp_path / "grey.npy", GREY)
    name = f"data_of_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(CODE.format(path=str(tmp_path / "grey.npy")))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    with trust.allowing(f"{name}.{of}" for of in ("Plain", "NoLength", "Empty", "Abstract", "Absent")):
        yield name


def read(module: str, of: str = "Plain", *overrides: str) -> Dataset:
    return load_dataset(make_point("data=torch_dataset", f"data.dataset._target_={module}.{of}", *overrides).data)


@pytest.mark.parametrize("kind", ["tensor", "pil", "float"])
def test_items_of_every_kind_become_the_same_bytes(kind: str, module: str) -> None:
    dataset = read(module, "Plain", f"+data.dataset.kind={kind}")
    assert all_images(dataset) == {image.tobytes() for image in GREY}
    assert dataset.labels is not None
    by_bytes = {image.tobytes(): i % 5 for i, image in enumerate(GREY)}
    for split in SPLITS:
        for image, label in zip(dataset.images[split], dataset.labels[split], strict=True):
            assert by_bytes[image.numpy().tobytes()] == label
    assert dataset.images["train"].dtype == torch.uint8


def test_a_test_set_of_its_own(module: str) -> None:
    dataset = read(module, "Plain", f"data.test_dataset._target_={module}.Plain", "+data.test_dataset.split=few")
    assert [dataset.num_images(split) for split in SPLITS] == [36, 4, 10]


@pytest.mark.parametrize(
    ("of", "keys", "expected"),
    [
        ("NoLength", [], "has no length (__len__)"),
        ("Plain", ["+data.dataset.broken=3"], "item 3 of 40 cannot be read: OSError: cannot read"),
        ("Plain", ["+data.dataset.kind=odd"], "item 7 is uint8 of [1, 3, 4], and item 0 uint8 of [1, 4, 4]"),
        ("Plain", ["+data.dataset.kind=text"], "item 0 is str"),
        ("Empty", [], "is empty"),
        ("Abstract", [], "is an abstract class: __getitem__ must be defined"),
        ("Absent", [], "cannot be imported: there is no Absent in"),
        ("Plain", ["+data.dataset.kind=four"], "item 0 is [4, 4, 5]; must have 1 or 3 channels"),
        ("Plain", ["+data.dataset.kind=words"], "item 0 has the label 'seven'; must be a whole number"),
        ("Plain", ["+data.dataset.kind=half"], "item 5 has no label, and others have"),
        ("Plain", ["+data.dataset.kind=not_a_number"], "has NaN or infinity"),
        ("Plain", ["+data.dataset.colour=red"], "unexpected keyword argument 'colour'"),
    ],
)
def test_a_data_set_that_cannot_be_used_is_one_line(of: str, keys: list[str], expected: str, module: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        read(module, of, *keys)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_palette_becomes_its_colours(module: str) -> None:
    assert read(module, "Plain", "+data.dataset.kind=palette").image_shape == (3, 4, 4)


def test_a_changed_file_among_the_arguments_is_read_again(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", GREY)
    before = stamps(str(tmp_path / "x.npy"))
    assert before == stamps(str(tmp_path / "x.npy"))
    np.save(tmp_path / "x.npy", GREY[:20])
    assert stamps(str(tmp_path / "x.npy")) != before
    assert stamps("neither a file nor a folder") == []


def test_only_some_splits_with_labels_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x_train=GREY, y_train=np.arange(40), x_test=GREY)
    with pytest.raises(ValueError, match="test has no labels, and others have"):
        numpy_data(tmp_path / "x.npz")


def test_floats_in_the_unit_interval_on_another_scale_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", GREY / np.float32(255))
    with pytest.raises(ValueError, match=r"none below 0; with data\.pixel_range=\[-1,1\] they must be on that scale"):
        load_dataset(
            make_point(
                "data=numpy", f"data.path={tmp_path / 'x.npy'}", "data.pixel_range=[-1,1]", "likelihood=gaussian"
            ).data
        )


OWN = """
import torch
from vae_sweeps.data import Dataset, fingerprint

def bits(size=4):
    images = {split: torch.zeros(6, 1, size, size, dtype=torch.uint8) for split in ("train", "val", "test")}
    return Dataset("bits", images, None, fingerprint(images, None))

def named():
    return Dataset("named", bits().images, None, "of zeros")

def nothing():
    return [1, 2]
"""


def test_a_function_of_ones_own_returns_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_bits.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    with trust.allowing({"own_bits.bits", "own_bits.nothing", "own_bits.named"}):
        point = make_point("data=custom", "data._target_=own_bits.bits", "+data.size=5")
        assert load_dataset(point.data).image_shape == (1, 5, 5)
        with pytest.raises(ValueError, match="returned list; must return a vae_sweeps"):
            load_dataset(make_point("data=custom", "data._target_=own_bits.nothing").data)
        with pytest.raises(ValueError, match="the fingerprint is 'of zeros'; must be a text without spaces"):
            load_dataset(make_point("data=custom", "data._target_=own_bits.named").data)


@pytest.mark.parametrize(
    ("of", "keys", "said"),
    [
        ("NoLength", [], "has no length (__len__)"),
        ("Plain", ["+data.dataset.broken=3"], "item 3 of 40 cannot be read"),
        ("Plain", ["+data.dataset.kind=odd"], "item 7 is uint8 of [1, 3, 4], and item 0"),
    ],
)
def test_a_launch_refuses_it_in_one_line_and_writes_nothing(
    of: str, keys: list[str], said: str, module: str, refused
) -> None:
    assert said in refused("data=torch_dataset", f"data.dataset._target_={module}.{of}", *keys)
