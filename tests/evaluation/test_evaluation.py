"""The parts of an evaluation: what they depend on, and what is missing where it cannot be computed."""

import math
from dataclasses import replace

import pytest
import torch

from tests.conftest import make_dataset, make_options, make_point
from tests.helpers.evaluated_columns import NEW, SAMPLES
from tests.helpers.small_digits import part_of_digits
from vae_sweeps.analysis import table
from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.load import load_dataset
from vae_sweeps.evaluation.evaluate import evaluate_parts, first_result, with_findings
from vae_sweeps.evaluation.features.base import build_features
from vae_sweeps.evaluation.model import Model, from_state
from vae_sweeps.evaluation.model_outputs import ModelOutputs
from vae_sweeps.evaluation.reference import Reference
from vae_sweeps.evaluation.settings import parts_left, settings
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.training.pack import new_start

CPU = torch.device("cpu")


def how(*overrides: str) -> Evaluation:
    return make_options(
        "evaluation=full", "evaluation.neighbours=20", "evaluation.iwae_samples=5", *overrides
    ).evaluation


def reference(dataset: Dataset, *overrides: str) -> Reference:
    asked = how(*overrides)
    return Reference(dataset, asked, build_features(asked.features, dataset), CPU)


# Where it does not matter which features are compared: a classifier of the digits would have to be trained first.
RANDOM = "evaluation/features=random"


def untrained(dataset: Dataset, *overrides: str) -> Model:
    point = make_point("arch.hidden=[16]", "latent=3", *overrides)
    return from_state(point, new_start(point, dataset.image_shape).model, dataset.image_shape)


def evaluate(model: Model, reference: Reference) -> dict:
    found, _ = evaluate_parts(model, reference, "run", settings(reference.how))
    return found


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return part_of_digits()


def test_batch_size_changes_nothing_above_1e_6(digits, tmp_path) -> None:
    model = untrained(digits)
    found = [
        evaluate(model, reference(digits, RANDOM, f"evaluation.batch_size={size}"))["metrics"] for size in (512, 37)
    ]
    assert found[0].keys() == found[1].keys() >= set(NEW)
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=1e-6, abs=1e-7), name


def test_the_seed_of_the_evaluation_decides_what_is_drawn(digits, tmp_path) -> None:
    model = untrained(digits)
    one, same, other = (
        evaluate(model, reference(digits, RANDOM, f"evaluation.seed={seed}"))["metrics"] for seed in (0, 0, 1)
    )
    assert one == same
    drawn = ["test/elbo", "test/iwae", "test/mi", "fid/random/prior", "fid/random/mixture", "neighbour/ratio"]
    drawn += ["test/elbo_se", "test/marginal_kl_upper", "probe/samples"]
    assert all(one[name] != other[name] for name in drawn)
    fixed = ["test/kl", "test/psnr", "probe/accuracy", "fid/random/reconstruction", "fid/random/floor"]
    fixed += ["test/marginal_kl_lower"]
    assert all(one[name] == other[name] for name in fixed)


def test_images_that_are_not_finite_leave_their_scores_out_with_the_reason(digits, tmp_path) -> None:
    """A decoder that overflows where |z_0| is large, though no reconstruction goes there."""
    model = untrained(digits)
    with torch.no_grad():
        model.vae.heads.weight[..., 0, 0] = 0  # mu_0 = 0 for every image
        model.vae.heads.bias[..., 0, 0] = 0
        first = next(p for name, p in model.vae.decoder.named_parameters() if name.endswith("weight"))
        first[:, 0] = 3e38 * torch.sign(torch.arange(first.shape[-1]) % 2 - 0.5)
    found = evaluate(model, reference(digits, RANDOM))
    for column in ("fid/random/prior", "kid/random/prior"):
        assert column not in found["metrics"]
        num_bad, _, num, *words = found["missing"][column].split()
        assert 0 < int(num_bad) < int(num) == 150
        assert " ".join(words) == "images of prior are not finite"
    assert math.isfinite(found["metrics"]["fid/random/reconstruction"])
    assert math.isfinite(found["metrics"]["test/psnr"])
    assert "fid" in found["evaluated"]


def test_a_part_that_raises_affects_no_other_and_is_tried_again(digits, tmp_path) -> None:
    few = replace(digits, images=digits.images | {"train": digits.images["train"][:200]})  # labels: 500
    shared = reference(replace(few, fingerprint="too few images for the labels"))
    found = evaluate(untrained(few), shared)
    assert set(found["evaluated"]) == set(settings(shared.how)) - {"fid", "kid", "prdc"}
    assert found["missing"].keys() == {"fid", "kid", "prdc"}  # the classifier could not be trained
    assert parts_left(found, shared.how) == ["fid", "kid", "prdc"]


def test_images_without_labels_and_too_small_for_ssim(tmp_path) -> None:
    dataset = make_dataset(sizes=(200, 20, 100))
    found = evaluate(untrained(dataset), reference(dataset))
    assert not any(name.startswith("probe/") for name in found["metrics"])
    assert {f"fid/random/{s}" for s in SAMPLES} <= set(found["metrics"])
    assert found["missing"] == {"test/ssim": "images of 8x8 are smaller than the window of 11x11"}
    assert found["features"]["random"]["accuracy"] is None


def test_binarized_images_are_compared_with_bits(tmp_path) -> None:
    dataset = load_dataset(make_point("data.binarize=static").data)
    model, shared = untrained(dataset), reference(dataset)
    subject = ModelOutputs(model, shared)
    (images, *_) = subject.images(subject.normals("prior", 100), "prior")
    assert set(images.unique().tolist()) <= {0.0, 1.0}
    (means, *_) = subject.means(subject.normals("prior", 100))
    assert images.mean().item() == pytest.approx(means.mean().item(), abs=0.01)


@pytest.mark.parametrize("binarize", ["none", "static", "dynamic"])
def test_test_images_that_are_training_images_have_no_ratio_of_distances(binarize, tmp_path) -> None:
    """Also where other bits are drawn for the same image."""
    how = "evaluation.neighbours=5"
    ratios = []
    for train_on in ("all", "train"):
        dataset = load_dataset(make_point(f"data.train_on={train_on}", f"data.binarize={binarize}").data)
        found, _ = evaluate_parts(untrained(dataset), reference(dataset, RANDOM, how), "run", ["neighbours"])
        ratios.append((found["metrics"].get("neighbour/ratio"), found["missing"].get("neighbour/ratio")))
    assert ratios[0] == (None, "the test images are training images")
    assert ratios[1][0] > 0


def test_one_importance_sample_has_no_standard_error(digits, tmp_path) -> None:
    found = evaluate(untrained(digits), reference(digits, RANDOM, "evaluation.iwae_samples=1"))
    assert "test/iwae" in found["metrics"]
    assert "test/iwae_se" in found["missing"]


def test_the_elbo_has_an_error_if_several_samples_are_drawn(digits) -> None:
    model = untrained(digits)
    one, two = (
        evaluate_parts(model, reference(digits, f"evaluation.elbo_samples={n}"), "run", ["elbo"])[0] for n in (1, 2)
    )
    assert "test/elbo_se" not in one["metrics"]
    assert one["missing"] == two["missing"] == {}
    assert 0 < two["metrics"]["test/elbo_se"] < 1
    of_test = ("test/elbo", "test/log_px", "test/bits_per_dim")
    for name, value in one["metrics"].items():  # only the test split gets more samples
        assert (two["metrics"][name] == value) == (name not in of_test), name
    assert one["evaluated"]["elbo"] == {"seed": 0, "elbo_samples": 1}
    assert parts_left(one, how("evaluation.elbo_samples=2"), ["elbo_samples"])[0] == "elbo"


def test_a_density_has_no_bits_per_dimension(digits) -> None:
    """They would change by log2 of the pixels' scale, and lie 8 bits below those of the 256 levels."""
    model = untrained(digits, "likelihood=gaussian")
    found = first_result(model, reference(digits))
    assert "test/bits_per_dim" not in found["metrics"]
    assert found["missing"].keys() == {"test/bits_per_dim"}
    assert "density" in found["missing"]["test/bits_per_dim"]
    assert "test/bits_per_dim" in first_result(untrained(digits), reference(digits))["metrics"]


def test_a_column_is_there_or_missing_but_never_both() -> None:
    result = {"status": "done", "metrics": {"a": 1.0, "b": 2.0}, "missing": {"c": "why"}, "evaluated": {"x": {}}}
    found = {"metrics": {"c": 3.0}, "missing": {"b": "no more"}, "evaluated": {"y": {}}}
    merged = with_findings(result, found)
    assert (merged["metrics"], merged["missing"]) == ({"a": 1.0, "c": 3.0}, {"b": "no more"})
    assert merged["evaluated"] == {"x": {}, "y": {}}
    failed = with_findings(result, {"metrics": {}, "missing": {"y": "raised"}, "evaluated": {}})
    assert failed["missing"] == {"c": "why", "y": "raised"}
    assert "y" not in with_findings(failed, found)["missing"]


def test_scores_of_different_features_never_share_a_column(tmp_path) -> None:
    folders = []
    for seed, weights in enumerate(("aaa", "aaa", "bbb")):
        folder = RunFolder.under(tmp_path, f"run-{seed}")
        folder.create(make_point(f"seed={seed}"), make_options(), [])
        about = {"classifier": {"weights": weights, "accuracy": 0.9, "num_images": 100}}
        metrics = {"test/elbo": -1.0, "fid/classifier/prior": float(seed)}
        folder.write_result({"status": "done", "metrics": metrics, "features": about})
        folders.append(folder)
    alike = table.make_table(folders[:2])
    assert list(alike["fid/classifier/prior"]) == [0.0, 1.0]
    mixed = table.make_table(folders)
    assert "fid/classifier/prior" not in mixed
    assert list(mixed["fid/classifier-aaa/prior"][:2]) == [0.0, 1.0]
    assert mixed["fid/classifier-bbb/prior"].tolist()[2:] == [2.0]
    assert mixed["fid/classifier-bbb/prior"].isna().tolist() == [True, True, False]
