"""The part of an evaluation that measures disentanglement, on images with and without factors."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from tests.conftest import make_dataset, make_options, make_point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.factors import Factors
from vae_sweeps.evaluation.evaluate import evaluate_parts
from vae_sweeps.evaluation.metrics.factors.measure import measure
from vae_sweeps.evaluation.model import Model, from_state
from vae_sweeps.evaluation.parts import LatentFactors
from vae_sweeps.evaluation.reference import Reference
from vae_sweeps.evaluation.settings import parts_left, settings
from vae_sweeps.launch.draw import PictureDrawer
from vae_sweeps.runs import catalogue
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.training.pack import new_start

HOW = make_options("evaluation=none", "evaluation.factors=true").evaluation
NAMES = ("shape", "scale")


@pytest.fixture(scope="module")
def images() -> Dataset:
    bare = make_dataset(sizes=(70, 24, 120))
    draw = torch.Generator().manual_seed(0)
    classes = {split: torch.randint(0, 3, (len(x), 2), generator=draw) for split, x in bare.images.items()}
    return replace(bare, factors=Factors(NAMES, (3, 3), classes))


@pytest.fixture(scope="module")
def model(images: Dataset) -> Model:
    point = make_point("arch.hidden=[16]", "latent=5", "pictures.traversal_extent=1.5")
    return from_state(point, new_start(point, images.image_shape).model, images.image_shape)


def reference(dataset: Dataset) -> Reference:
    return Reference(dataset, HOW, None, torch.device("cpu"))


@pytest.fixture(scope="module")
def evaluated(model: Model, images: Dataset) -> tuple[dict[str, Any], LatentFactors]:
    found, (drawing,) = evaluate_parts(model, reference(images), "run", ["factors"])
    assert isinstance(drawing, LatentFactors)
    return found, drawing


def test_only_a_full_evaluation_measures_factors() -> None:
    assert "factors" in settings(make_options("evaluation=full").evaluation)
    for name in ("none", "fast"):
        assert "factors" not in settings(make_options(f"evaluation={name}").evaluation)


def test_the_scores_are_those_of_the_means_of_test_images(model: Model, images: Dataset, evaluated) -> None:
    found, drawing = evaluated
    assert images.factors is not None
    mu, sigma = model.encode(images.images["test"].float() / 255)
    again = measure(mu.double().numpy(), images.factors.classes["test"].numpy(), NAMES, HOW.seed)
    assert found["metrics"] == again.metrics
    assert found["metrics"].keys() == set(catalogue.names("factors"))
    assert found["missing"] == {}
    details = found["factors"]
    assert (details["names"], details["num_images"], details["num_bins"]) == (list(NAMES), 120, 20)
    assert torch.tensor(details["mutual_information"]).shape == (5, 2)
    assert drawing.shares.shape == (5, 2)
    kl = (0.5 * (mu.square() + sigma.square() - 1) - sigma.log()).mean(0)
    assert drawing.kl == pytest.approx(kl.numpy(), rel=1e-5)
    assert drawing.latents == kl.argsort(descending=True).tolist()


def test_a_row_of_traversals_changes_one_latent(model: Model, images: Dataset, evaluated) -> None:
    _, drawing = evaluated
    assert drawing.images.shape == (5, 10, *images.image_shape)
    for row, j in enumerate(drawing.latents):
        z = torch.zeros(2, 5)
        z[:, j] = torch.tensor([-1.5, 1.5])
        torch.testing.assert_close(drawing.images[row, [0, -1]], model.decode(z))


def test_the_pictures_are_in_the_folder_of_the_run(evaluated, tmp_path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    _, drawing = evaluated
    PictureDrawer().findings(run, [drawing])
    drawn = {path.stem for path in run.pictures.iterdir()}
    assert drawn == {"mutual_information", "latent_traversals"} <= set(catalogue.PICTURES)
    for path in run.pictures.iterdir():
        with Image.open(path) as picture:
            picture.verify()


def test_a_factor_of_one_value_is_named_in_the_log(model: Model, images: Dataset, caplog) -> None:
    assert images.factors is not None
    classes = {split: of_split * torch.tensor([0, 1]) for split, of_split in images.factors.classes.items()}
    one = replace(images, factors=replace(images.factors, classes=classes))
    found, _ = evaluate_parts(model, reference(one), "run", ["factors"])
    assert "random: the factor shape has one value in the test images, and is left out" in caplog.messages
    assert found["factors"]["names"] == ["scale"]
    assert "factors/mig" in found["metrics"]
    assert found["missing"]["factors/modularity"] == "needs at least two factors that vary"


def test_images_without_factors_have_no_scores_and_nothing_is_left_to_do(model: Model, images: Dataset) -> None:
    found, drawings = evaluate_parts(model, reference(replace(images, factors=None)), "run", ["factors"])
    assert (found["metrics"], found["missing"], drawings) == ({}, {}, [])
    assert "factors" not in parts_left(found, HOW)


def test_a_model_whose_codes_are_constant_has_reasons_and_no_pictures(model: Model, images: Dataset) -> None:
    constant = replace(model, vae=copy.deepcopy(model.vae))
    with torch.no_grad():
        constant.vae.heads.weight.zero_()
    found, drawings = evaluate_parts(constant, reference(images), "run", ["factors"])
    assert found["metrics"] == {}
    assert found["missing"].keys() == set(catalogue.names("factors"))
    assert drawings == []
