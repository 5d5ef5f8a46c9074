"""Precision, recall, density and coverage against their definitions, closed forms and a model of two classes.

Sources: Kynkäänniemi et al. 2019 (precision, recall); Naeem et al. 2020 (density, coverage).
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conftest import make_options, make_point
from vae_sweeps.data.load import load_dataset
from vae_sweeps.evaluation.features.base import of_module
from vae_sweeps.evaluation.metrics import prdc as metric
from vae_sweeps.evaluation.metrics.prdc import PRDC, balls
from vae_sweeps.evaluation.reference import Reference
from vae_sweeps.runs.run_folder import RunFolder

ALL_ONE = PRDC(1, 1, 6 / 5, 1)  # a ball of the 5th nearest point has six points in it, its centre among them


def prdc(real: Tensor, fake: Tensor) -> PRDC:
    return metric.prdc(balls(real), balls(fake))


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(real: np.ndarray, fake: np.ndarray) -> PRDC:
    """All differences, point by point."""

    def distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.array([[np.linalg.norm(a - b) for b in others] for a in points])

    def radii(points: np.ndarray, k: int) -> np.ndarray:
        return np.sort(distances(points, points), axis=1)[:, k]  # the nearest of all is the point itself

    pairs = distances(real, fake)
    in_real, in_fake = pairs <= radii(real, 3)[:, None], pairs <= radii(fake, 3)[None, :]
    in_wider = pairs <= radii(real, 5)[:, None]
    return PRDC(in_real.any(0).mean(), in_fake.any(1).mean(), in_wider.sum(0).mean() / 5, in_wider.any(1).mean())


@pytest.mark.parametrize(("num_real", "num_fake", "width"), [(60, 60, 2), (40, 70, 5), (80, 30, 20)])
@pytest.mark.parametrize("scale", [0.6, 1.0, 1.5])
def test_it_is_what_the_definitions_say(num_real: int, num_fake: int, width: int, scale: float) -> None:
    real, fake = normals(num_real, width), scale * normals(num_fake, width, seed=1) + 0.2
    found = prdc(real, fake)
    assert found == pytest.approx(by_definition(real.numpy(), fake.numpy()), abs=1e-12)
    assert 0 < found.precision < 1 or 0 < found.recall < 1  # neither set is inside the other, nor away from it


@pytest.mark.parametrize("width", [2, 300])
def test_equal_sets(width: int) -> None:
    real = normals(50, width)
    assert prdc(real, real.flip(0)) == pytest.approx(ALL_ONE, abs=1e-12)


def test_sets_with_different_supports() -> None:
    assert prdc(normals(40, 4), 0.1 * normals(50, 4, seed=1) + 50) == PRDC(0, 0, 0, 0)


def test_one_real_point_as_all_samples() -> None:
    """It looks real and is one of N; each of the N balls holds six points, so on average it is in six of them."""
    real = normals(40, 3)
    found = torch.tensor([prdc(real, point.expand(30, 3)) for point in real], dtype=torch.float64)
    assert (found[:, 0] == 1).all()
    assert found[:, 1].tolist() == pytest.approx([1 / 40] * 40)
    assert found[:, 2].mean().item() == pytest.approx(6 / 5)
    assert found[:, 3].mean().item() == pytest.approx(6 / 40)


@pytest.mark.parametrize(("num_real", "num_fake"), [(500, 500), (600, 300)])
def test_two_samples_of_one_distribution(num_real: int, num_fake: int) -> None:
    """The density is 1 on average. A real ball is empty if the five points nearest to its centre are all real, which
    has the probability (1/2)^5 for many points (Naeem et al. 2020, sec. 3.3)."""
    draws = [prdc(normals(num_real, 3, seed=2 * i), normals(num_fake, 3, seed=2 * i + 1)) for i in range(40)]
    density, coverage = (np.array([getattr(draw, name) for draw in draws]) for name in ("density", "coverage"))
    empty = math.prod((num_real - i) / (num_real + num_fake - i) for i in range(1, 6))
    if num_real == num_fake:
        assert 1 - empty == pytest.approx(1 - 0.5**5, abs=0.001)
    for found, expected in ((density, 1.0), (coverage, 1 - empty)):
        assert abs(found.mean() - expected) < 4 * found.std() / 40**0.5 < 0.02


def test_in_many_dimensions_samples_near_the_mean_are_in_most_balls() -> None:
    """The caveat of docs/evaluation.md (Khayatkhoei & AbdAlmageed 2023)."""
    found = prdc(normals(1000, 64), 0.8 * normals(800, 64, seed=1))
    assert found.precision > 0.99
    assert found.recall < 0.1
    assert 10 < found.density < 12
    assert found.coverage > 0.99


def test_precision_of_one_set_is_recall_of_the_other() -> None:
    real, fake = normals(80, 3), 0.5 * normals(60, 3, seed=1)
    assert prdc(real, fake).precision == prdc(fake, real).recall
    assert prdc(real, fake).precision > prdc(real, fake).recall


def test_a_generator_of_two_digits_is_precise_but_does_not_cover_ten() -> None:
    """Digits 3 and 8 of the training images instead of all; other programs have had precision and recall swapped."""
    dataset = load_dataset(make_point().data)
    assert dataset.labels is not None
    how = make_options("evaluation=none", "evaluation.prdc=true").evaluation
    reference = Reference(dataset, how, of_module("pixels", nn.Flatten(), dataset.image_shape), torch.device("cpu"))
    train, labels = (data["train"][:2000] for data in (dataset.images, dataset.labels))
    two = (labels == 3) | (labels == 8)
    ten = reference.features_of(train[:500].float() / 255)
    all_ten = PRDC(*reference.compare("prdc", ten).values())
    found = reference.compare("prdc", reference.features_of(train[two].float() / 255))
    assert list(found) == [f"prdc/*/{name}" for name in PRDC._fields]
    only_two = PRDC(*found.values())
    assert only_two.precision > 0.9 * all_ten.precision > 0.5
    assert only_two.density > 0.8
    assert only_two.recall < 0.5 * all_ten.recall
    assert only_two.coverage < 0.4 < 0.8 < all_ten.coverage


@pytest.mark.parametrize("width", [2, 700])
@pytest.mark.parametrize("copies", [2, 6, 9])
def test_copies_of_points_are_in_each_others_balls(width: int, copies: int) -> None:
    """Six copies have balls of radius 0, which rounding errors must not empty."""
    real = 3 * normals(20, width) + 7
    many = real.repeat(copies, 1)
    found = prdc(many, many[torch.randperm(len(many), generator=torch.Generator().manual_seed(0))])
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert prdc(many, real.repeat(6, 1))[:2] == (1, 1)


def test_equal_images_of_a_collapsed_model_cover_nothing() -> None:
    real = normals(50, 30)
    assert prdc(real, torch.full((40, 30), 20.0, dtype=torch.float64)) == PRDC(0, 0, 0, 0)
    assert prdc(real, real[:1].expand(40, 30)).recall == 1 / 50


@pytest.mark.parametrize("pairs", [1, 100, 1999])
def test_blocks_change_nothing(pairs: int, monkeypatch) -> None:
    """Also where distances are equal, as between copies."""
    real, fake = normals(60, 40), normals(50, 40, seed=1)
    fake[:20] = real[:20]
    fake[20:30] = fake[:10]
    whole = prdc(real, fake)
    monkeypatch.setattr(metric, "_PAIRS_AT_ONCE", pairs)
    assert prdc(real, fake) == whole


def test_a_common_motion_and_scale_change_nothing() -> None:
    real, fake = normals(100, 7), normals(120, 7, seed=10)
    rotation, _ = torch.linalg.qr(normals(7, 7, seed=20))
    assert prdc(5 * real @ rotation + 30, 5 * fake @ rotation + 30) == prdc(real, fake)


@pytest.mark.parametrize(("num_real", "num_fake"), [(5, 100), (100, 5), (0, 0)])
def test_too_few_images_are_refused(num_real: int, num_fake: int) -> None:
    with pytest.raises(ValueError, match=r"more than 5 images a side, the number of neighbours k, not [05]"):
        prdc(normals(num_real, 3), normals(num_fake, 3))


def test_six_images_are_enough() -> None:
    assert prdc(normals(6, 3), normals(6, 3)) == pytest.approx(ALL_ONE)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused(bad: float) -> None:
    fake = normals(20, 3)
    fake[[4, 9], 1] = bad
    with pytest.raises(ValueError, match=r"^the features of 2 of 20 images are not finite"):
        prdc(normals(20, 3), fake)


def test_launches_from_before_this_part_do_not_ask_for_it(tmp_path) -> None:
    run = RunFolder.under(tmp_path, "run-0")
    run.create(make_point(), make_options("evaluation=full"), [])
    before = [line for line in run.launch_options.read_text().splitlines() if "prdc:" not in line]
    assert run.read_launch_options().evaluation.prdc is True
    run.launch_options.write_text("\n".join(before))
    assert run.read_launch_options().evaluation.prdc is False


def test_the_floor_is_that_of_training_images() -> None:
    dataset = load_dataset(make_point().data)
    small = replace(dataset, images={split: images[:200] for split, images in dataset.images.items()}, labels=None)
    small = replace(small, fingerprint="200 digits of each split")
    how = make_options("evaluation=none", "evaluation.prdc=true").evaluation
    reference = Reference(small, how, of_module("pixels", nn.Flatten(), small.image_shape), torch.device("cpu"))
    real, train = (small.images[split].flatten(1).double() / 255 for split in ("test", "train"))
    expected = {f"prdc/*/{name}": value for name, value in prdc(real, train)._asdict().items()}
    assert reference.floor == pytest.approx(expected, abs=0.01)  # features are float32
