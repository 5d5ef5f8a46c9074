"""Launches from the command line: what they train, skip, write and print, and their exit codes."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import vae_sweeps
from tests.conftest import ROOT, Door, ended_command, launch, start_launch, wait_until
from vae_sweeps.runs import states
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.run_folder import RunFolder, runs_folder
from vae_sweeps.runs.sweep_folder import all_sweeps

SMALL = ["arch.hidden=[16]", "steps=30", "evaluation=none"]
PICTURES = ["reconstructions", "samples", "traversal", "interpolations", "curves"]
PICTURES += ["latent_map", "kl_bars"]
GRID = ["-m", "beta=0,1", "latent=2,4", *SMALL[:-1]]  # with the default evaluation, on few images
GRID += ["evaluation.num_images=200", "evaluation.max_fit_images=500", "evaluation.iwae_samples=5"]


def rows_by_run(output_dir: Path) -> dict[str, int]:
    """The time at which each run's rows were last written, in ns."""
    return {path.parent.name: path.stat().st_mtime_ns for path in runs_folder(output_dir).glob("*/metrics.jsonl")}


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    output_dir = tmp_path_factory.mktemp("outputs")
    return output_dir, launch(*GRID, f"output_dir={output_dir}")


def test_a_grid_writes_table_and_pictures(swept) -> None:
    output_dir, finished = swept
    assert (finished.returncode, finished.stderr) == (0, "")
    (sweep,) = all_sweeps(output_dir)
    assert sweep.name.startswith("mnist5k-beta-latent-")
    assert sweep.mosaic.exists()
    assert sweep.report.exists()
    table = vae_sweeps.results(sweep.path)
    assert list(zip(table["beta"], table["latent"], strict=True)) == [(0, 2), (0, 4), (1, 2), (1, 4)]
    assert set(table["status"]) == {"done"}
    expected = "run run_id status seed data arch likelihood beta latent beta_nats num_params time_s images_per_s"
    assert {*expected.split(), "git_commit", "test/bits_per_dim", "test/active_units"} <= set(table)
    for split in ("train", "val", "test"):
        elbo = table[f"{split}/log_px"] - table[f"{split}/kl"]
        np.testing.assert_allclose(table[f"{split}/elbo"], elbo, rtol=1e-12)
    np.testing.assert_allclose(table["test/bits_per_dim"], -table["test/elbo"] / (784 * np.log(2)), rtol=1e-12)
    pd.testing.assert_frame_equal(pd.read_parquet(sweep.table), table, check_dtype=False)
    for run in table["run"]:
        folder = RunFolder.under(output_dir, run)
        pictures = {path.name for path in folder.pictures.iterdir()}
        assert pictures == {f"{name}.png" for name in PICTURES}
        assert folder.launch_options.exists()
        assert not list(folder.path.glob(".claim*"))


@pytest.mark.slow
def test_means_over_several_seeds_are_printed(tmp_path) -> None:
    finished = launch("-m", "beta=0,1", "seed=0,1,2", *SMALL, f"output_dir={tmp_path}")
    assert (finished.returncode, finished.stderr) == (0, "")
    (sweep,) = all_sweeps(tmp_path)
    table = vae_sweeps.results(sweep.path)
    lines = finished.stdout.splitlines()
    first = lines.index("2 rows, mean ± standard error over seed; data=mnist5k arch=mlp likelihood=bernoulli latent=10")
    rule = next(k for k in range(first, len(lines)) if lines[k].startswith("──"))
    for line, beta in zip(lines[rule + 1 : rule + 3], (0, 1), strict=True):
        elbo = table.loc[table["beta"] == beta, "test/elbo"].to_numpy()
        name, n, mean, _, se = line.split()[:5]
        assert (name, n) == (str(beta), "3")
        assert abs(float(mean) - elbo.mean()) <= 10.0 ** -len(mean.partition(".")[2])
        assert abs(float(se) - elbo.std(ddof=1) / 3**0.5) <= 10.0 ** -len(se.partition(".")[2])
    assert f"table of all points: vae-sweeps results {sweep.path} (the mosaic shows the lowest seed)" in lines


def test_the_same_command_again_trains_nothing(swept, door: Door) -> None:
    output_dir, _ = swept
    before = rows_by_run(output_dir)
    again = door("-m", "latent=4,2", "beta=1.0,0e0", *SMALL, f"output_dir={output_dir}")  # the same grid
    assert again.code == 0
    assert "4 of 4 points already done" in again.out
    assert rows_by_run(output_dir) == before
    assert len(all_sweeps(output_dir)) == 1


@pytest.mark.slow
def test_an_extended_grid_trains_only_what_is_new(swept, door: Door) -> None:
    output_dir, _ = swept
    before = rows_by_run(output_dir)
    extended = door("-m", "beta=0,1", "latent=2,4,3", *SMALL, f"output_dir={output_dir}", "sweep=extended")
    assert extended.code == 0
    assert "4 of 6 points already done" in extended.out
    after = rows_by_run(output_dir)
    assert len(after) == 6
    assert {run: after[run] for run in before} == before
    assert len(vae_sweeps.results("extended", output_dir)) == 6


def test_a_loaded_model_agrees_with_the_table(swept) -> None:
    output_dir, _ = swept
    row = vae_sweeps.results(output_dir).query("beta == 1 and latent == 4").iloc[0]
    model = vae_sweeps.load(row["run"], output_dir)
    x = model.images("test")
    assert x.shape == (1000, 1, 28, 28)
    mu, sigma = model.encode(x)
    assert mu.shape == sigma.shape == (1000, 4)
    kl = (0.5 * (mu**2 + sigma**2 - 1) - sigma.log()).sum(1).mean().item()
    assert kl == pytest.approx(row["test/kl"], rel=1e-5)
    elbo = torch.stack([model.elbo(x, seed=seed) for seed in range(10)])
    standard_error = elbo.std(0).mean().item() / np.sqrt(elbo.shape[1])
    assert elbo.mean().item() == pytest.approx(row["test/elbo"], abs=5 * standard_error)
    mean = model.decode(mu)
    assert mean.shape == x.shape
    p = mean.double().clamp(1e-12, 1 - 1e-12)
    expected = (x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3))
    torch.testing.assert_close(model.log_px(x, mu).double(), expected, rtol=1e-4, atol=1e-3)
    assert model.sample(5).shape == (5, 1, 28, 28)
    assert torch.equal(model.sample(5, seed=1), model.sample(5, seed=1))
    with pytest.raises(ValueError, match="split=all: must be one of train, val, test"):
        model.images("all")


def test_results_prints_and_writes_the_table(swept, tmp_path, capsys) -> None:
    output_dir, _ = swept
    (sweep, *_) = (sweep.name for sweep in all_sweeps(output_dir) if sweep.name != "extended")
    command = ["results", sweep, "--output-dir", output_dir]
    script = Path(sys.executable).parent / "vae-sweeps"
    shown = subprocess.run([script, *command], capture_output=True, text=True, check=True).stdout
    assert shown.count("done") == 4
    for option, read in (("--csv", pd.read_csv), ("--parquet", pd.read_parquet)):
        path = tmp_path / f"table.{option[2:]}"
        assert ended_command(capsys, *command, option, path).code == 0
        np.testing.assert_allclose(
            read(path)["test/elbo"], vae_sweeps.results(output_dir / "sweeps" / sweep)["test/elbo"]
        )


def test_a_run_with_a_corrupt_result_is_trained_again_with_a_warning(tmp_path, door: Door) -> None:
    arguments = [*SMALL, f"output_dir={tmp_path / 'out'}"]
    assert door(*arguments).code == 0
    (run,) = all_runs(tmp_path / "out")
    whole = run.read_result()
    run.result.write_text('{"status": "do')
    again = door(*arguments)
    assert again.code == 0
    assert f"{run.result}: damaged" in again.out.replace("\n", "")
    again_whole = run.read_result()
    assert whole is not None
    assert again_whole is not None
    assert again_whole["metrics"] == whole["metrics"]


@pytest.mark.slow
def test_overwrite_trains_again(tmp_path, door: Door) -> None:
    arguments = [*SMALL, f"output_dir={tmp_path / 'out'}"]
    door(*arguments)
    before = rows_by_run(tmp_path / "out")
    assert door(*arguments, "overwrite=true").code == 0
    assert all(after > before[run] for run, after in rows_by_run(tmp_path / "out").items())


def test_a_diverged_point_does_not_affect_the_others(tmp_path, door: Door) -> None:
    """beta = 1e38 overflows in single precision; the other points of its pack finish."""
    assert door("-m", "beta=0.1,1e38,1", *SMALL, f"output_dir={tmp_path / 'out'}").code == 1
    table = vae_sweeps.results(tmp_path / "out").set_index("beta")
    assert table["status"].to_dict() == {0.1: "done", 1.0: "done", 1e38: "diverged"}
    assert np.isnan(table.loc[1e38, "test/elbo"])
    assert table.loc[1e38, "step"] >= 1


FRAGILE = """
from vae_sweeps.likelihoods import Gaussian

class Fragile(Gaussian):
    def log_prob(self, params, x):
        assert len(x) < 16 or 0.5 not in self.sigma, "sigma is one half"  # not in the trial step, of four images
        return super().log_prob(params, x)
"""


@pytest.mark.slow
def test_a_point_that_raises_is_marked_failed_with_its_traceback(tmp_path, monkeypatch, door: Door) -> None:
    """A user's likelihood raises for one point of the pack; the other points train in smaller packs."""
    (tmp_path / "fragile_at_one_half.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "out"
    target = "likelihood._target_=fragile_at_one_half.Fragile"
    sigmas = ["likelihood=gaussian", target, "likelihood.sigma=0.1,0.5,0.7,1"]
    finished = door("-m", *sigmas, *SMALL, f"output_dir={out}")
    assert finished.code == 1, finished.err
    table = vae_sweeps.results(out).set_index("likelihood.sigma")
    assert table["status"].to_dict() == {0.1: "done", 0.5: "failed", 0.7: "done", 1.0: "done"}
    failed = RunFolder.under(out, str(table.loc[0.5, "run"]))
    assert "sigma is one half" in (failed.read_failure() or "")


@pytest.mark.slow
def test_two_concurrent_launches_train_every_point_once(tmp_path) -> None:
    arguments = ["-m", "beta=0,1", "latent=2,4", *SMALL[:1], "steps=1500", "evaluation=none"]
    arguments += [f"output_dir={tmp_path}"]
    processes = [start_launch(*arguments) for _ in range(2)]
    for process in processes:
        process.communicate(timeout=120)
    assert launch(*arguments).returncode == 0  # all points are done by now
    for run in all_runs(tmp_path):
        steps = [row["step"] for row in run.read_rows()]
        assert steps == sorted(set(steps))
        assert steps[-1] == 1500
        assert "resumes after step" not in run.log.read_text()


def test_the_claim_of_a_killed_process_is_ignored(tmp_path) -> None:
    arguments = ["steps=100000", "arch.hidden=[16]", f"output_dir={tmp_path}"]
    process = start_launch(*arguments)
    wait_until(lambda: len(rows_by_run(tmp_path)) == 1, process)
    (run,) = all_runs(tmp_path)
    assert states.status(run, None) == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(run.path.glob(".claim*"))
    assert states.status(run, None) == "pending"  # killed before its first checkpoint


def test_the_claim_of_a_process_that_was_killed_after_its_run_was_done_is_removed(tmp_path, door: Door) -> None:
    arguments = [*SMALL, f"output_dir={tmp_path / 'out'}"]
    assert door(*arguments).code == 0
    (run,) = all_runs(tmp_path / "out")
    code = f"from pathlib import Path; from vae_sweeps.system import lease; lease.take(Path({str(run.path)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert list(run.path.glob(".claim*"))
    assert door(*arguments).code == 0
    assert not list(run.path.glob(".claim*"))


@pytest.mark.slow
def test_the_basic_sweeper_of_hydra_works(tmp_path, door: Door) -> None:
    assert door("-m", "beta=0,1", *SMALL, "hydra/sweeper=basic", f"output_dir={tmp_path / 'out'}").code == 0
    assert set(vae_sweeps.results(tmp_path / "out")["status"]) == {"done"}
