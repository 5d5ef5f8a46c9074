"""Worker processes on one machine, Hydra's sweepers, and mistakes in the launcher's keys."""

import signal
from pathlib import Path

import pandas as pd
import pytest

import vae_sweeps
from tests.conftest import launch, start_launch, wait_until
from vae_sweeps.runs.run_folder import RunFolder, runs_folder

GRID = ["-m", "beta=0.1,1", "latent=2,5", "arch.hidden=[16]", "evaluation=none", "sweep=grid", "log_every_steps=20"]
TWO = "hydra.launcher.workers=2"


def table(output_dir: Path) -> pd.DataFrame:
    full = vae_sweeps.results(output_dir / "sweeps" / "grid")
    assert set(full["status"]) == {"done"}
    return pd.DataFrame(full.set_index("run_id")[["train/elbo", "val/elbo", "test/elbo"]]).sort_index()


@pytest.mark.slow
def test_two_workers_and_one_process_give_the_same_numbers(tmp_path) -> None:
    one = launch(*GRID, "steps=60", "max_pack=2", f"output_dir={tmp_path / 'one'}")
    two = launch(*GRID, "steps=60", TWO, f"output_dir={tmp_path / 'two'}")
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    assert "4 points to train in 2 packs on cpu, 2 side by side" in two.stdout
    pd.testing.assert_frame_equal(table(tmp_path / "one"), table(tmp_path / "two"), check_exact=True)
    again = launch(*GRID, "steps=60", TWO, f"output_dir={tmp_path / 'two'}")
    assert "4 of 4 points already done" in again.stdout


@pytest.mark.slow
def test_ctrl_c_stops_the_workers_and_nothing_is_lost(tmp_path) -> None:
    arguments = [*GRID, "steps=2500", "checkpoint_every_s=1e9", TWO, f"output_dir={tmp_path}"]
    process = start_launch(*arguments)
    runs = runs_folder(tmp_path)
    wait_until(lambda: len(list(runs.glob("*/metrics.jsonl"))) == 4, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
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
        ("hydra.launcher.workers=0", "hydra.launcher.workers=0: must be a whole number >= 1, or null"),
        ("hydra.launcher.worker=2", "hydra.launcher.worker=2: no such key; did you mean hydra.launcher.workers?"),
        ("hydra/launcher=pbs", "hydra/launcher=pbs: must be one of"),
    ],
)
def test_a_mistake_in_the_launchers_keys_is_one_line(refused, argument: str, line: str) -> None:
    assert refused(*GRID, argument).startswith(line)
