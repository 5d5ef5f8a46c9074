"""Other sweepers of Hydra work with the launcher, and receive values that they can optimise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import vae_sweeps
from tests.conftest import ROOT

# Its release needs another Optuna than ours, so `make .venv/dev` installs it separately.
SWEEPER = ROOT / ".venv" / "optuna-sweeper"
NEEDS_SWEEPER = pytest.mark.skipif(not SWEEPER.is_dir(), reason="hydra-optuna-sweeper is installed by make .venv/dev")

SEARCH = ["-m", "hydra/sweeper=optuna", "beta=interval(0.1,1)", "latent=choice(2,5)"]
SMALL = ["arch.hidden=[16]", "steps=40", "evaluation=none", "tracker=none"]
NUMBERS = ["hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2"]


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(SWEEPER), str(ROOT)])}
    command = [sys.executable, str(ROOT / "launch.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@NEEDS_SWEEPER
def test_the_release_of_hydra_optuna_sweeper_maximises(tmp_path: Path) -> None:
    """Without a name of the sweep, which is then made from the intervals, too."""
    out = tmp_path / "out"
    ended = launch(*SEARCH, *SMALL, *NUMBERS, "hydra.sweeper.direction=maximize", f"output_dir={out}")
    assert ended.returncode == 0, ended.stderr
    (sweep,) = (out / "sweeps").iterdir()
    assert sweep.name.startswith("mnist5k-beta-latent-")
    table = vae_sweeps.results(sweep)
    found = yaml.safe_load((out / "optimization_results.yaml").read_text())
    assert len(table) == 4
    assert found["best_value"] == max(table["val/elbo"])


@pytest.mark.slow
@NEEDS_SWEEPER
def test_another_column_is_optimised_and_the_wrong_direction_is_reported(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["optimized_metric=test/elbo", "hydra.sweeper.direction=minimize", f"output_dir={out}", "sweep=grid"]
    ended = launch(*SEARCH, *SMALL, *NUMBERS, *options)
    assert ended.returncode == 0, ended.stderr
    assert "hydra.sweeper.direction=minimize, but a higher test/elbo is better" in ended.stdout + ended.stderr
    found = yaml.safe_load((out / "optimization_results.yaml").read_text())
    assert found["best_value"] == min(vae_sweeps.results(out / "sweeps" / "grid")["test/elbo"])


def test_a_column_that_does_not_exist_is_refused(refused) -> None:
    assert "optimized_metric=val/elbos: no such column" in refused("-m", "beta=0,1", "optimized_metric=val/elbos")
