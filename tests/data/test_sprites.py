"""The sprites that are drawn here: their factors are what can be measured on the pixels."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from tests.helpers.image_files import CONF
from vae_sweeps.config.keys import GROUP_SCHEMAS
from vae_sweeps.data import sprites
from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.drawn_sprites import draw
from vae_sweeps.data.load import load_dataset


def load(cache: Path, **more) -> Dataset:
    settings = {"size": 32, "num_images": 5_000, "pixel_range": [0, 1], "seed": 0, "resident": "auto"} | more
    return sprites(cache=str(cache), **settings)


@pytest.fixture(scope="module", params=[32, 64])
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(tmp_path_factory.mktemp("cache"), size=request.param)


def classes_of(dataset: Dataset, factor: str) -> Tensor:
    assert dataset.factors is not None
    return dataset.factors.classes["train"][:, dataset.factors.names.index(factor)]


@pytest.mark.parametrize("choice", ["sprites", "dsprites", "shapes3d"])
def test_a_choice_of_conf_data_has_the_schemas_keys_and_allowed_values(choice: str) -> None:
    cfg = OmegaConf.load(CONF / f"{choice}.yaml")
    assert isinstance(cfg, DictConfig)
    (schema, _) = cfg.pop("defaults")
    merged = OmegaConf.merge(OmegaConf.structured(GROUP_SCHEMAS["data", schema]), cfg)
    assert isinstance(merged, DictConfig)
    assert set(merged) == set(cfg)


def test_all_images_differ_and_are_black_or_white(drawn: Dataset) -> None:
    images = torch.cat([drawn.images[split] for split in SPLITS])
    assert set(images.unique().tolist()) == {0, 255}
    assert len({image.numpy().tobytes() for image in images}) == 5_000


@pytest.mark.parametrize("step", [1, 2], ids=["32 px", "64 px"])
def test_all_sprites_differ_wherever_they_are_and_do_not_depend_on_rounding(step: int) -> None:
    found = set()
    for shape in ("square", "ellipse", "triangle"):
        for scale in np.linspace(0.6, 1, 8):
            for angle in np.arange(17) * np.pi / 34:
                sprite = draw(shape, scale, angle, step)
                rows, columns = np.nonzero(sprite)
                cut = sprite[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
                found.add((cut.shape, cut.tobytes()))
                for change in (-1e-9, 1e-9):
                    assert np.array_equal(draw(shape, scale * (1 + change), angle + change, step), sprite)
    assert len(found) == 3 * 8 * 17


def test_each_combination_of_factors_occurs_at_most_once(drawn: Dataset) -> None:
    assert drawn.factors is not None
    classes = torch.cat([drawn.factors.classes[split] for split in SPLITS])
    assert len(classes.unique(dim=0)) == 5_000
    assert (classes.amin(0) == 0).all()
    assert tuple((classes.amax(0) + 1).tolist()) == drawn.factors.sizes
    assert all(torch.equal(drawn.factors.classes[split].T[0], drawn.labels[split]) for split in SPLITS)  # type: ignore[index]


def test_splits_are_a_tenth_each(drawn: Dataset) -> None:
    assert [drawn.num_images(split) for split in SPLITS] == [4_000, 500, 500]


@pytest.mark.parametrize("axis", [2, 1], ids=["x", "y"])
def test_places_are_centres_of_mass(drawn: Dataset, axis: int) -> None:
    """A shape's centre is at its centre of mass, up to the pixels of its edge, and places are equally far apart."""
    pixels = drawn.images["train"][:, 0].double() / 255  # [N,H,W]
    size = pixels.shape[-1]
    along = pixels.sum(3 - axis)  # [N,size]
    centre = (along * (torch.arange(size) + 0.5)).sum(1) / along.sum(1)
    place = classes_of(drawn, "x" if axis == 2 else "y").double()
    step = size / 32
    offset = centre - place * step
    assert (offset - offset.mean()).abs().max() < 0.6


def test_areas_are_those_of_the_shapes(drawn: Dataset) -> None:
    """The square has the diagonal 2 r, the ellipse the half axes r and r / 2, the triangle the circumradius r."""
    num_pixels = (drawn.images["train"] > 0).sum((1, 2, 3)).double()
    r = (0.6 + 0.4 * classes_of(drawn, "scale") / 7) * drawn.image_shape[1] / 4
    unit = torch.tensor([2, np.pi / 2, 0.75 * 3**0.5], dtype=torch.float64)[classes_of(drawn, "shape")]
    area = unit * r**2
    assert ((num_pixels - area).abs() < area.sqrt()).all()  # less than a row of pixels
    assert (num_pixels.mean() / area.mean()).item() == pytest.approx(1, abs=0.01)


def test_orientation_is_the_angle_of_the_longer_axis(drawn: Dataset) -> None:
    """Of ellipses, whose second moments have an axis."""
    is_ellipse = classes_of(drawn, "shape") == 1
    pixels = drawn.images["train"][is_ellipse, 0].double() / 255
    x = torch.arange(pixels.shape[-1], dtype=torch.float64)
    mass = pixels.sum((1, 2))
    mean_x, mean_y = (pixels.sum(1) @ x) / mass, (pixels.sum(2) @ x) / mass
    dx, dy = x - mean_x[:, None], x - mean_y[:, None]  # [N,size]
    xx, yy = (pixels.sum(1) * dx**2).sum(1), (pixels.sum(2) * dy**2).sum(1)
    xy = torch.einsum("nij,ni,nj->n", pixels, dy, dx)
    angle = torch.rad2deg(0.5 * torch.atan2(2 * xy, xx - yy))
    expected = classes_of(drawn, "orientation")[is_ellipse] * 90 / 17
    error = (angle - expected + 90) % 180 - 90
    assert error.abs().max() < 12
    assert error.mean().abs() < 0.5


def test_splits_and_fingerprint_do_not_depend_on_the_seed_or_place(tmp_path: Path) -> None:
    one, other = load(tmp_path / "a"), load(tmp_path / "b", seed=5)
    assert one.fingerprint == other.fingerprint
    assert all(torch.equal(one.images[split], other.images[split]) for split in SPLITS)
    assert load(tmp_path / "a", num_images=5_001).fingerprint != one.fingerprint


def test_the_fingerprint_of_the_default_stays() -> None:
    """It is part of the ids of runs."""
    data = OmegaConf.to_container(OmegaConf.load(CONF / "sprites.yaml"))
    assert isinstance(data, dict)
    dataset = load_dataset({str(key): value for key, value in data.items() if key != "defaults"})
    assert dataset.fingerprint == "1cdc22bf17aef37a"
    assert dataset.describe() == (
        "sprites: 40,000 train, 5,000 val, 5,000 test images of 1x32x32, 3 classes, "
        "factors shape, scale, orientation, x, y"
    )


def test_a_damaged_array_is_drawn_again(tmp_path: Path) -> None:
    dataset = load(tmp_path)
    images = {split: dataset.images[split].clone() for split in SPLITS}
    (array,) = tmp_path.glob("images-*/images.u8")
    stat = array.stat()
    os.truncate(array, 1_000)
    os.utime(array, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = load(tmp_path)
    assert again.fingerprint == dataset.fingerprint
    assert all(torch.equal(again.images[split], images[split]) for split in SPLITS)


def test_a_cache_that_cannot_be_written_is_refused_in_one_line(refused, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = refused("data=sprites", f"data.cache={tmp_path / 'file'}")
    assert line.startswith(f"data.cache={tmp_path / 'file'}: images cannot be stored there (")


@pytest.mark.parametrize(
    ("override", "allowed"),
    [("size=48", "32 or 64"), ("num_images=4999", "from 5000 to 100000"), ("num_images=100001", "from 5000 to 100000")],
)
def test_sizes_and_numbers_of_images_are_limited(refused, override: str, allowed: str) -> None:
    assert allowed in refused("data=sprites", f"data.{override}")
