"""Workers on a real SLURM that share a sweep's points: free nodes are used, and a lost one costs its pack only."""

from collections.abc import Iterator

import pandas as pd
import pytest

import vae_sweeps
from tests.conftest import launch, vs
from tests.helpers.slurm_cluster import Cluster
from tests.helpers.slurm_sweeps import NEEDS_SLURM, SLURM, SMALL, running_cluster, status, table, wait, wait_for
from vae_sweeps.runs import claims
from vae_sweeps.runs.run_folder import RunFolder, runs_folder

pytestmark = NEEDS_SLURM

# With packs of one point, numbers do not depend on which points train together, to the last digit.
EIGHT = ["-m", "beta=0.1,1", "seed=0,1,2,3", "sweep=grid", *SMALL, "steps=1000", "max_pack=1"]
ELASTIC = [*SLURM, "hydra.launcher.elastic=true", "hydra.launcher.packs=3", "hydra.launcher.partition=low"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(max_submit_jobs=4) as up:
        yield up


def test_workers_share_the_points_through_preemption_and_a_lost_node(cluster, tmp_path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    submitted = launch(*EIGHT, *ELASTIC, f"output_dir={there}")
    assert submitted.returncode == 0, submitted.stderr
    assert "3 workers for 8 points submitted: " in submitted.stdout
    again = launch(*EIGHT, *ELASTIC, f"output_dir={there}")
    assert "8 of 8 points already in the queue" in again.stdout
    assert "nothing to submit" in again.stdout
    runs = [RunFolder(path) for path in runs_folder(there).iterdir()]
    wait_for(lambda: sum(map(claims.is_held, runs)) == 3)
    assert " running" in status(there)
    cluster.run("sbatch", "-p", "high", "-w", "n1", "-c", "4", "--wrap", "sleep 3", "-o", "/dev/null")
    for state in ("drain", "down"):  # only a drained node stays down until it is resumed
        cluster.run("scontrol", "update", "nodename=n2", f"state={state}", "reason=test")
    wait_for(lambda: any(run.result.exists() for run in runs))
    cluster.run("scontrol", "update", "nodename=n2", "state=resume")
    wait(there)
    assert launch(*EIGHT, f"output_dir={here}").returncode == 0
    pd.testing.assert_frame_equal(table(there), table(here), check_exact=True)
    for run in runs:
        steps = [row["step"] for row in run.read_rows()]
        assert steps == sorted(set(steps))


def test_cancelled_workers_leave_their_points_to_the_next(cluster, tmp_path) -> None:
    submitted = launch(*EIGHT, *ELASTIC, f"output_dir={tmp_path}")
    assert submitted.returncode == 0, submitted.stderr
    runs = [RunFolder(path) for path in runs_folder(tmp_path).iterdir()]
    wait_for(lambda: any(run.result.exists() for run in runs))
    assert "jobs cancelled: " in vs("cancel", "grid", "--output-dir", tmp_path).stdout
    wait_for(lambda: not cluster.run("squeue", "-h"))
    ended = vs("work", "grid", "--output-dir", tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(table(tmp_path)) == 8


def test_workers_halve_the_points_through_a_preemption(cluster, tmp_path) -> None:
    grid = ["-m", "beta=0.1,1,3", "seed=0,1,2", "sweep=grid", *SMALL, "epochs=8", "precision=fp64"]
    halving = "hydra.sweeper.halving={min_epochs: 2, reduction_factor: 3}"
    here, there = tmp_path / "here", tmp_path / "there"
    submitted = launch(*grid, *ELASTIC, halving, f"output_dir={there}")
    assert submitted.returncode == 0, submitted.stderr
    runs = [RunFolder(path) for path in runs_folder(there).iterdir()]
    wait_for(lambda: any(claims.is_held(run) for run in runs))
    cluster.run("sbatch", "-p", "high", "-w", "n1", "-c", "4", "--wrap", "sleep 3", "-o", "/dev/null")
    wait(there)
    assert launch(*grid, halving, f"output_dir={here}").returncode == 0
    ends = ("done", "stopped")
    pd.testing.assert_frame_equal(table(there, ends=ends), table(here, ends=ends), rtol=1e-9)
    assert sum(status == "done" for status in vae_sweeps.results(there / "sweeps" / "grid")["status"]) == 1
    for run in runs:
        steps = [row["step"] for row in run.read_rows()]
        assert steps == sorted(set(steps))
