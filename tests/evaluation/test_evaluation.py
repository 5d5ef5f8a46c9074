"""Evaluating finished points: new columns, kept columns, and results that depend on the checkpoint alone."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import vae_sweeps
from tests.conftest import ended_command, launch, launch_here, make_dataset, make_options, make_point
from vae_sweeps.analysis import table
from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.load import load_dataset
from vae_sweeps.evaluation.evaluate import evaluate_parts, first_result, with_findings
from vae_sweeps.evaluation.features.base import build_features
from vae_sweeps.evaluation.model import Model, from_state, load_run
from vae_sweeps.evaluation.model_outputs import ModelOutputs
from vae_sweeps.evaluation.reference import Reference, new_reference
from vae_sweeps.evaluation.settings import parts_left, settings
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.run_folder import RunFolder, runs_folder
from vae_sweeps.training.pack import new_start

SMALL = ["arch.hidden=[16]", "steps=30"]
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
    """A part of the digits at half their size, so that a full evaluation takes a second."""
    whole = load_dataset(make_point().data)
    sizes = {"train": 500, "val": 50, "test": 150}
    assert whole.labels is not None
    return replace(
        whole,
        images={split: images[: sizes[split], :, ::2, ::2] for split, images in whole.images.items()},
        labels={split: labels[: sizes[split]] for split, labels in whole.labels.items()},
        fingerprint="a part of mnist5k",
    )


@pytest.fixture(scope="module")
def trained_without(tmp_path_factory) -> Path:
    """Two runs with the ELBO's terms and nothing else."""
    output_dir = tmp_path_factory.mktemp("without")
    arguments = ["-m", "beta=0.5", "latent=2,4", *SMALL, "evaluation=none", "sweep=grid", f"output_dir={output_dir}"]
    assert launch_here(*arguments) == 0
    return output_dir


def files_of_training(output_dir: Path) -> dict[Path, bytes]:
    found = runs_folder(output_dir).rglob("*")
    return {path: path.read_bytes() for path in found if path.name in ("metrics.jsonl", "checkpoint.pt", "config.yaml")}


@pytest.mark.slow
def test_evaluate_adds_columns_without_training(trained_without, capsys) -> None:
    before, trained = vae_sweeps.results(trained_without / "sweeps/grid"), files_of_training(trained_without)
    ended = ended_command(capsys, "evaluate", "grid", "evaluation=full", "--output-dir", trained_without)
    assert ended.code == 0, ended.err
    assert "2 of 2 points finished, 2 of them to evaluate on cpu" in ended.out
    after = vae_sweeps.results(trained_without / "sweeps/grid")
    assert files_of_training(trained_without) == trained
    old = [name for name in before if name not in NEW]
    pd.testing.assert_frame_equal(after.filter(items=old), before.filter(items=old), check_exact=True)
    assert before[NEW].isna().to_numpy().all()
    assert after[NEW].notna().to_numpy().all()
    for score in ("fid", "kid"):
        assert list(after.filter(like=score)) == [f"{score}/classifier/{s}" for s in SAMPLES]
    assert after.filter(regex="^[fk]id").notna().to_numpy().all()
    np.testing.assert_allclose(after["test/mi"] + after["test/marginal_kl"], after["test/kl"], rtol=1e-5)
    assert (after["test/iwae"] > after["test/elbo"]).to_numpy().all()
    for result in (run.read_result() for run in all_runs(trained_without)):
        assert result is not None
        assert result["missing"] == {}
        assert result["features"]["classifier"].keys() == {"weights", "accuracy", "num_images"}
        assert sum(result["kl_per_latent"]) == pytest.approx(result["metrics"]["test/kl"], rel=1e-5)


NEW = ["test/iwae", "test/iwae_se", "test/iwae_ess", "test/iwae_dominated", "test/mi", "test/mi_at_limit"]
NEW += ["test/marginal_kl", "test/marginal_kl_lower", "test/marginal_kl_upper", "test/collapsed"]
NEW += ["probe/accuracy", "probe/samples", "probe/pixels"]
NEW += ["test/psnr", "test/ssim", "neighbour/ratio", "neighbour/distance"]
SAMPLES = ["prior", "reconstruction", "mixture", "floor"]


@pytest.mark.slow
def test_the_same_command_again_evaluates_nothing_and_other_settings_only_what_they_change(
    trained_without, capsys
) -> None:
    arguments = ["evaluate", "grid", "evaluation=full", "--output-dir", trained_without]
    ended_command(capsys, *arguments)
    again = ended_command(capsys, *arguments)
    assert "0 of them to evaluate" in again.out
    more = ended_command(capsys, *arguments, "evaluation.iwae_samples=3")
    assert more.code == 0
    (evaluated,) = {line.split("evaluated")[1].split()[0] for line in more.out.splitlines() if ": evaluated" in line}
    assert evaluated == "likelihood"
    assert more.out.count(": evaluated likelihood") == 2
    assert "0 of them to evaluate" in ended_command(capsys, *arguments).out  # which sets no number of samples


@pytest.mark.slow
def test_a_launch_evaluates_done_points_where_parts_were_never_made(tmp_path) -> None:
    arguments = ["-m", "beta=0,1", *SMALL, f"output_dir={tmp_path}"]
    launch(*arguments, "evaluation=none")
    trained = files_of_training(tmp_path)
    later = launch(*arguments)
    assert later.returncode == 0
    assert "2 points to evaluate" in later.stdout
    assert files_of_training(tmp_path) == trained
    found = vae_sweeps.results(tmp_path)
    assert found[["test/iwae", "fid/classifier/prior"]].notna().to_numpy().all()
    # A bound of more samples stays when the command is given again with its usual hundred.
    run = RunFolder.under(tmp_path, str(found["run"][0]))
    result = run.read_result()
    assert result is not None
    result["evaluated"]["likelihood"]["iwae_samples"] = 5000
    run.write_result(result)
    assert "to evaluate" not in launch(*arguments).stdout


@pytest.mark.slow
def test_pack_and_time_of_evaluation_change_no_digit(trained_without, tmp_path, capsys) -> None:
    """Packed and evaluated later == one by one and evaluated at once, where the weights are the same."""
    ended_command(capsys, "evaluate", "grid", "evaluation=full", "--output-dir", trained_without)
    runs = all_runs(trained_without)
    # `evaluate` keeps the ELBO of one sample that every run has, unless the number of samples is on its command line.
    asked = make_options("evaluation=full", "evaluation.elbo_samples=1").evaluation
    for run in reversed(runs):
        model, kept = load_run(run), run.read_result()
        assert kept is not None
        shared = new_reference(model.point, asked, CPU)
        found, _ = evaluate_parts(model, shared, "run", ["fid", "latent_space", "neighbours", "elbo", "kid"])
        # As in the test before, the bound may have been made with another number of samples.
        assert found["metrics"] == {name: kept["metrics"][name] for name in found["metrics"]}


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


USERS_FEATURES = """
from torch import nn

class Corners(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.side = side

    def forward(self, images):
        return images[:, 0, 10:10 + self.side, 10:10 + self.side].flatten(1)
"""


@pytest.mark.slow
def test_custom_features(trained_without, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "my_features.py").write_text(USERS_FEATURES)
    monkeypatch.syspath_prepend(tmp_path)
    custom = ["evaluation/features=custom", "evaluation.features._target_=my_features.Corners"]
    arguments = ["evaluate", "grid", "evaluation=full", "--output-dir", trained_without, *custom]
    assert ended_command(capsys, *arguments, "+evaluation.features.side=3").code == 0
    found = vae_sweeps.results(trained_without / "sweeps/grid")
    assert found[[f"fid/corners/{s}" for s in SAMPLES]].notna().to_numpy().all()
    too_wide = ended_command(capsys, *arguments, "+evaluation.features.side=40")  # 18 x 18 of the images are left
    assert too_wide.code == 0
    wider = ended_command(capsys, *arguments, "+evaluation.features.side=4", "evaluation.num_images=16")
    assert wider.code == 2
    assert "evaluation.num_images=16: must be more than 16, the width of the features corners" in wider.err


@pytest.mark.slow
def test_orderings_that_hold_everywhere(tmp_path) -> None:
    """For beta = 0 a mixture on the codes beats the prior by far, and the gap closes as beta grows; reconstructions
    score better than samples (Ghosh et al. 2020, table 1)."""
    finished = launch("-m", "beta=0,0.1,1", "latent=10", "epochs=15", f"output_dir={tmp_path}")
    assert finished.returncode == 0
    found = vae_sweeps.results(tmp_path).sort_values("beta")
    prior, reconstruction, mixture = (found[f"fid/classifier/{s}"].to_numpy() for s in SAMPLES[:3])
    assert (reconstruction < prior).all()
    assert mixture[0] < 0.5 * prior[0]
    gap = prior - mixture
    assert gap[0] > gap[1] > gap[2]
