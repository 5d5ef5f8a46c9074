"""Worker processes on one machine, Hydra's sweepers, and mistakes in the launcher's keys."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import vae_sweeps
from tests.conftest import launch, make_options, make_point, start_launch, wait_until
from vae_sweeps.config.launchers import LocalLauncher
from vae_sweeps.data.load import load_dataset
from vae_sweeps.launch.request import Launch
from vae_sweeps.launch.workers import number_of_evaluators, number_of_workers
from vae_sweeps.runs import claims
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.run_folder import RunFolder, runs_folder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import machine

GRID = ["-m", "beta=0.1,1", "latent=2,5", "arch.hidden=[16]", "evaluation=none", "sweep=grid", "log_every_steps=20"]
VAE_SWEEPS = str(Path(sys.executable).parent / "vae-sweeps")
TWO = "hydra.launcher.workers=2"
WITHOUT_CHECKPOINTS = [*GRID, TWO, "checkpoint_every_s=1e9", "batch_size=16", "log_every_steps=100"]


def table(output_dir: Path) -> pd.DataFrame:
    full = vae_sweeps.results(output_dir / "sweeps" / "grid")
    assert set(full["status"]) == {"done"}
    return pd.DataFrame(full.set_index("run_id")[["train/elbo", "val/elbo", "test/elbo"]]).sort_index()


def training(arguments: list[str], output_dir: Path) -> subprocess.Popen[str]:
    """A launch of the grid in two processes, when all four points have rows."""
    process = start_launch(*arguments)
    wait_until(lambda: len(list(runs_folder(output_dir).glob("*/metrics.jsonl"))) == 4, process)
    return process


@pytest.mark.slow
def test_two_workers_and_one_process_give_the_same_numbers(tmp_path) -> None:
    one = launch(*GRID, "steps=60", "max_pack=2", f"output_dir={tmp_path / 'one'}")
    two = launch(*GRID, "steps=60", TWO, f"output_dir={tmp_path / 'two'}")
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    assert "4 points to train in 2 packs on cpu, 2 side by side" in two.stdout
    assert two.stdout.count("W&B: off") == one.stdout.count("W&B: off") == 1
    assert "submitit" not in two.stdout
    pd.testing.assert_frame_equal(table(tmp_path / "one"), table(tmp_path / "two"), check_exact=True)
    again = launch(*GRID, "steps=60", TWO, f"output_dir={tmp_path / 'two'}")
    assert "4 of 4 points already done" in again.stdout


@pytest.mark.slow
def test_evaluating_in_two_processes_gives_the_numbers_of_one(tmp_path) -> None:
    """By `vae-sweeps evaluate`, and by a launch of points that are trained already."""
    trained = launch(*GRID, "steps=10", f"output_dir={tmp_path / 'one'}")
    assert trained.returncode == 0, trained.stderr
    for name in ("two", "launched"):
        shutil.copytree(tmp_path / "one", tmp_path / name)
    fast = ["evaluation=fast", "evaluation/features=random", "evaluation.num_images=200"]
    fast += ["evaluation.max_fit_images=300", "evaluation.iwae_samples=5"]
    for name, workers in (("one", "1"), ("two", "2")):
        command = [VAE_SWEEPS, "evaluate", "grid", *fast, "--workers", workers, "--output-dir", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(": evaluated") == 4
        assert ("4 points evaluated in 2 processes" in done.stdout) == (workers == "2")
    again = launch(*GRID, "steps=10", TWO, *fast, f"output_dir={tmp_path / 'launched'}")
    assert again.returncode == 0, again.stderr
    assert "4 points evaluated in 2 processes" in again.stdout
    one, two, launched = (evaluated(tmp_path / name) for name in ("one", "two", "launched"))
    assert len(one.dropna(subset="fid/random/mixture")) == 4
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    pd.testing.assert_frame_equal(one, launched, check_exact=True)


def evaluated(output_dir: Path) -> pd.DataFrame:
    full = vae_sweeps.results(output_dir / "sweeps" / "grid").set_index("run_id").sort_index()
    return pd.DataFrame(full.filter(regex="^(train|val|test|fid|probe)/"))


@pytest.mark.slow
def test_ctrl_c_stops_the_workers_and_nothing_is_lost(tmp_path) -> None:
    arguments = [*WITHOUT_CHECKPOINTS, "steps=2500", f"output_dir={tmp_path}"]
    process, runs = training(arguments, tmp_path), runs_folder(tmp_path)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 130, err
    assert "interrupted; everything is saved" in out
    for run in runs.iterdir():
        assert (run / "checkpoint.pt").exists()
        assert not list(run.glob(".claim*"))
    later = launch(*arguments)
    assert later.returncode == 0, later.stderr
    for run in runs.iterdir():
        steps = [row["step"] for row in RunFolder(run).read_rows()]
        assert steps == sorted(set(steps))
        assert steps[-1] == 2500
        assert "resumes after step" in (run / "log.txt").read_text()


@pytest.mark.slow
def test_workers_whose_launch_is_killed_save_and_end(tmp_path) -> None:
    process = training([*WITHOUT_CHECKPOINTS, "steps=100000", f"output_dir={tmp_path}"], tmp_path)
    process.kill()
    process.communicate(timeout=180)
    folders = all_runs(tmp_path)
    assert len(folders) == 4
    wait_until(lambda: not any(claims.is_held(run) for run in folders))
    for run in folders:
        assert run.checkpoint.exists()
        assert (run.read_result(), run.read_failure()) == (None, None)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_named_and_the_others_go_on(tmp_path) -> None:
    arguments = [*WITHOUT_CHECKPOINTS, "steps=4000", f"output_dir={tmp_path}"]
    process = training(arguments, tmp_path)
    owner = json.loads(next(runs_folder(tmp_path).glob("*/.claim*/owner.json")).read_text())
    os.kill(owner["pid"], signal.SIGKILL)
    out, _ = process.communicate(timeout=180)
    assert process.returncode == 1
    assert out.count("its process was killed") == 1
    assert any(counts in out for counts in ("4 points: 2 pending, 2 done", "4 points: 2 done, 2 pending")), out
    retry = [VAE_SWEEPS, "retry", "grid", "--output-dir", str(tmp_path)]
    again = subprocess.run(retry, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert len(table(tmp_path)) == 4
    written = pd.read_parquet(SweepFolder.under(tmp_path, "grid").table)
    assert written["status"].tolist() == ["done"] * 4


@pytest.mark.slow
def test_a_sweeper_may_launch_in_batches(tmp_path) -> None:
    """With max_batch_size=1, Hydra's basic sweeper calls the launcher once for each point."""
    batches = ["hydra/sweeper=basic", "hydra.sweeper.max_batch_size=1"]
    finished = launch(*GRID, "steps=10", *batches, f"output_dir={tmp_path}")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("1 point to train in 1 pack") == 4
    assert len(table(tmp_path)) == 4


def test_sweeping_hydras_own_keys_is_refused(refused) -> None:
    """The only applicable test of `hydra.test_utils.launcher_common_tests`: the others use configs that are not points,
    and task functions, which this launcher does not call."""
    line = refused("-m", "hydra.verbose=true,false")
    assert "Sweeping over Hydra's configuration is not supported : 'hydra.verbose=true,false'" in line


def test_one_point_on_a_cluster_requires_m(refused) -> None:
    """Without -m Hydra does not call the launcher, so the login node would train the point."""
    assert refused("beta=1", "hydra/launcher=slurm").startswith("hydra/launcher=slurm: must be used with -m")


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("hydra.launcher.workers=0", "hydra.launcher.workers=0: must be auto, or a whole number >= 1"),
        ("hydra.launcher.worker=2", "hydra.launcher.worker=2: no such key; did you mean hydra.launcher.workers?"),
        ("hydra/launcher=pbs", "hydra/launcher=pbs: must be one of"),
    ],
)
def test_a_mistake_in_the_launchers_keys_is_one_line(refused, argument: str, line: str) -> None:
    assert refused(*GRID, argument).startswith(line)


def workers_for(overrides: list[str], num_points: int, workers: int | str = "auto", **changes: Any) -> int:
    points = [make_point("data=mnist5k", *overrides, f"seed={seed}") for seed in range(num_points)]
    sweep, launcher = SweepFolder(Path("sweeps/any")), LocalLauncher("any", workers)
    asked = Launch(points, [[]] * num_points, make_options("evaluation=none"), launcher, sweep)
    return number_of_workers(
        replace(asked, **changes), points, [load_dataset(point.data) for point in points], torch.device("cpu")
    )


LONG, SHORT = ["steps=1000000"], ["steps=20"]


@pytest.mark.parametrize(("num_threads", "num_points"), [*itertools.product((1, 2, 3, 16, 64), (1, 2, 9, 40))])
def test_a_long_sweep_uses_all_threads_and_no_more(monkeypatch, num_threads: int, num_points: int) -> None:
    monkeypatch.setattr(machine, "num_threads", lambda: num_threads)
    monkeypatch.setattr(machine, "memory_for_packs", lambda device: 1e12)
    workers = workers_for(LONG, num_points)
    assert 1 <= workers <= min(num_threads, num_points)
    assert workers > 1 or num_threads == 1 or num_points < num_threads
    if num_points % num_threads == 0:
        assert workers == num_threads


def test_workers_that_would_not_pay_or_fit_are_not_started(monkeypatch) -> None:
    monkeypatch.setattr(machine, "num_threads", lambda: 16)
    assert workers_for(SHORT, 32) == 1
    assert workers_for(LONG, 32, sweep=None) == 1
    monkeypatch.setattr(machine, "memory_for_packs", lambda device: 2e9)
    assert 1 < workers_for(LONG, 32) <= 3
    monkeypatch.setattr(machine, "memory_for_packs", lambda device: 1e8)
    assert workers_for(LONG, 32) == 1


def test_the_number_of_workers_can_be_given() -> None:
    assert workers_for(SHORT, 9, 3) == 3


def evaluators_for(num_points: int, evaluation: str, workers: int | str = "auto") -> int:
    asked = Launch([], [], make_options(evaluation), LocalLauncher("any", workers), SweepFolder(Path("sweeps/any")))
    return number_of_evaluators(num_points, asked, torch.device("cpu"))


def test_many_evaluations_use_all_threads_and_few_one_process(monkeypatch) -> None:
    monkeypatch.setattr(machine, "num_threads", lambda: 16)
    monkeypatch.setattr(machine, "memory_for_packs", lambda device: 1e12)
    assert evaluators_for(1000, "evaluation=fast") == 16
    assert evaluators_for(1, "evaluation=fast") == 1
    assert evaluators_for(1000, "evaluation=none") == 1
    assert evaluators_for(1000, "evaluation=fast", 3) == 3
    assert evaluators_for(2, "evaluation=fast", 3) == 2
    monkeypatch.setattr(machine, "memory_for_packs", lambda device: 3e9)
    assert evaluators_for(1000, "evaluation=fast") == 2
