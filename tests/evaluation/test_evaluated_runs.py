"""Evaluating finished runs by a command: new columns, kept columns, and scores of features of the user's own."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import vae_sweeps
from tests.conftest import ended_command, launch, launch_here, make_options
from tests.helpers.evaluated_columns import NEW, SAMPLES
from vae_sweeps.evaluation.evaluate import evaluate_parts
from vae_sweeps.evaluation.model import load_run
from vae_sweeps.evaluation.reference import new_reference
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.run_folder import RunFolder, runs_folder

pytestmark = pytest.mark.slow

SMALL = ["arch.hidden=[16]", "steps=30"]
CPU = torch.device("cpu")


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


USERS_FEATURES = """
from torch import nn

class Corners(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.side = side

    def forward(self, images):
        return images[:, 0, 10:10 + self.side, 10:10 + self.side].flatten(1)
"""


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
