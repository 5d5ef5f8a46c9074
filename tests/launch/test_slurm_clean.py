"""What jobs leave behind on a real SLURM, and that `vae-sweeps clean` disturbs none that lives."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import launch, vs
from tests.helpers.slurm_cluster import Cluster
from tests.helpers.slurm_sweeps import (
    GRID,
    LONG,
    NEEDS_SLURM,
    SLURM,
    has_checkpoints,
    running_cluster,
    table,
    wait,
    wait_for,
)
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.sweep_folder import SweepFolder

pytestmark = NEEDS_SLURM


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(num_nodes=1, accounting=False) as up:
        yield up


def clean(output_dir: Path, *arguments: str) -> str:
    ended = vs("clean", "grid", *arguments, "--output-dir", output_dir)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_job_leaves_three_files_and_after_the_cleaning_none(cluster: Cluster, tmp_path: Path) -> None:
    four = [*GRID, "steps=20", "max_pack=1", *SLURM, "hydra.launcher.snapshot=true", f"output_dir={tmp_path}"]
    submitted = launch(*four, "hydra.launcher.setup=['echo said by the setup >&2']")
    assert "4 points in 4 packs submitted as 4 jobs" in submitted.stdout, submitted.stderr
    wait(tmp_path)
    wait_for(lambda: not cluster.run("squeue", "-h"))
    sweep = SweepFolder.under(tmp_path, "grid")
    kinds = Counter(path.name.partition("_")[2].lstrip("0123456789_") for path in sweep.jobs.iterdir())
    assert kinds == {"submitted.pkl": 4, "log.out": 4, "result.pkl": 4, "submission.sh": 1, "": 1}  # and settings.json
    for log in sweep.jobs.glob("*.out"):
        assert "said by the setup" in log.read_text()
        assert "Exiting after successful completion" in log.read_text()
    for copy in sweep.code.iterdir():
        os.utime(copy, (1, 1))  # older than a lease
    assert "files of ended jobs" in clean(tmp_path)
    assert [path.name for path in sweep.jobs.iterdir()] == ["settings.json"]
    assert not any(sweep.code.iterdir())
    for run in all_runs(tmp_path):
        assert len(list(run.path.rglob("*"))) + 1 <= 10
    assert "nothing to retry" in vs("retry", "grid", "--output-dir", tmp_path).stdout
    more = launch(*[argument.replace("latent=2,5", "latent=2,5,3") for argument in four])
    assert "2 points in 2 packs submitted as 2 jobs" in more.stdout, more.stderr
    wait(tmp_path)
    assert len(table(tmp_path)) == 6


def test_tasks_of_a_job_share_its_log(cluster: Cluster, tmp_path: Path) -> None:
    two = [*GRID, "steps=20", *SLURM, "devices=2", f"output_dir={tmp_path}"]
    assert launch(*two).returncode == 0
    wait(tmp_path)
    wait_for(lambda: not cluster.run("squeue", "-h"))
    (log,) = SweepFolder.under(tmp_path, "grid").jobs.glob("*_log.*")
    assert log.read_text().count("Job completed successfully") == 2


def test_a_cleaning_does_not_disturb_a_job_that_trains_and_is_requeued(cluster: Cluster, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    snapshot = "hydra.launcher.snapshot=true"
    assert launch(*LONG, *SLURM, snapshot, f"output_dir={there}").returncode == 0
    wait_for(lambda: has_checkpoints(there))
    sweep = SweepFolder.under(there, "grid")
    before = {path for path in sweep.path.rglob("*") if "code" in path.parts or "jobs" in path.parts}
    assert "left alone 4 runs that a process or a job may work on" in clean(there)
    cluster.run("scancel", "--signal=USR2", "--user=root")
    for _ in range(3):
        clean(there)
    assert {path for path in sweep.path.rglob("*") if "code" in path.parts or "jobs" in path.parts} >= before
    wait(there)
    assert launch(*LONG, f"output_dir={here}").returncode == 0
    pd.testing.assert_frame_equal(table(there), table(here), check_exact=True)
    for run in all_runs(there):
        assert "resumes after step" in run.log.read_text()


def test_a_lost_point_can_be_retried_after_a_cleaning(cluster: Cluster, tmp_path: Path) -> None:
    assert launch(*LONG, *SLURM, f"output_dir={tmp_path}").returncode == 0
    wait_for(lambda: has_checkpoints(tmp_path))
    assert vs("cancel", "grid", "--output-dir", tmp_path).returncode == 0
    wait_for(lambda: not cluster.run("squeue", "-h"))
    checkpoints = {path for run in all_runs(tmp_path) for path in run.path.glob("*.pt")}
    clean(tmp_path)
    assert all(path.exists() for path in checkpoints)
    assert vs("retry", "grid", "--output-dir", tmp_path).returncode == 0
    wait(tmp_path)
    assert len(table(tmp_path)) == 4
