"""A site with limits: few jobs a user, no requeues, preemption that cancels, clients and setups that fail."""

import os
import sys
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
    SMALL,
    has_checkpoints,
    of_launcher,
    running_cluster,
    status,
    table,
    wait,
    wait_for,
)
from vae_sweeps.runs.run_folder import RunFolder, runs_folder
from vae_sweeps.runs.sweep_folder import SweepFolder

pytestmark = NEEDS_SLURM

EIGHT = ["-m", "seed=0,1,2,3,4,5,6,7", "sweep=grid", *SMALL, "steps=20", "max_pack=1"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(requeues=False, preempt_mode="CANCEL", max_submit_jobs=5) as up:
        yield up


def test_a_submission_is_cut_to_the_sites_limit_and_the_rest_follows(cluster, tmp_path) -> None:
    submitted = launch(*EIGHT, *SLURM, f"output_dir={tmp_path}")
    assert submitted.returncode == 0, submitted.stderr
    assert "sbatch takes no more jobs now: AssocMaxSubmitJobLimit" in submitted.stdout
    assert "3 points left; when there is room, this submits them: vae-sweeps wait grid" in submitted.stdout
    ended = vs("wait", "grid", "--output-dir", tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(table(tmp_path)) == 8
    tasks = SweepFolder.under(tmp_path, "grid").submitted().task_of
    assert len(set(tasks.values())) == 8  # each point was submitted once


def test_retry_takes_points_that_were_never_submitted(cluster, tmp_path) -> None:
    held = cluster.run("sbatch", "--hold", "--array=0-4", "--wrap", "true", "-o", "/dev/null").split()[-1]
    submitted = launch(*GRID, "steps=20", *SLURM, f"output_dir={tmp_path}")
    assert "4 points left" in submitted.stdout, submitted.stderr
    assert status(tmp_path).startswith("grid: 4 pending\n")
    assert "for room in the queue" in status(tmp_path)
    cluster.run("scancel", held)
    wait_for(lambda: not cluster.run("squeue", "-h"))
    assert vs("retry", "grid", "--output-dir", tmp_path).returncode == 0
    wait(tmp_path)


def test_where_jobs_are_not_requeued_a_successor_goes_on(cluster, tmp_path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    submitted = launch(*LONG, *SLURM, "+hydra.launcher.additional_parameters.no-requeue=true", f"output_dir={there}")
    assert submitted.returncode == 0, submitted.stderr
    wait_for(lambda: has_checkpoints(there))
    cluster.run("scancel", "--signal=USR2", "--user=root")
    wait(there)
    assert launch(*LONG, f"output_dir={here}").returncode == 0
    pd.testing.assert_frame_equal(table(there), table(here), check_exact=True)
    assert all("resumes after step" in RunFolder(run).log.read_text() for run in runs_folder(there).iterdir())
    assert len(SweepFolder.under(there, "grid").submitted().runs_of) == 2


FAILING = """#!/bin/sh
# Fails two calls in three, as if the controller had too much to do.
n=$(cat {counter} 2>/dev/null || echo 0); echo $((n + 1)) > {counter}
if [ $((n % 3)) -ne 2 ]; then echo "slurm_load_jobs error: Socket timed out on send/recv operation" >&2; exit 1; fi
exec {real} "$@"
"""


def test_clients_that_fail_change_nothing(cluster, tmp_path, monkeypatch) -> None:
    """The job asks squeue whether it was cancelled, and scontrol to be requeued; both fail at first."""
    (tmp_path / "bin").mkdir()
    for name in ("squeue", "scontrol", "sbatch", "sacct", "scancel"):
        script = tmp_path / "bin" / name
        script.write_text(FAILING.format(counter=tmp_path / f"{name}.count", real=f"/usr/bin/{name}"))
        script.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        submitted = launch(*LONG, *SLURM, f"output_dir={tmp_path / 'out'}")
        assert submitted.returncode == 0, submitted.stderr
        wait_for(lambda: has_checkpoints(tmp_path / "out"))
        cluster.run("/usr/bin/scancel", "--signal=USR2", "--user=root")
        wait(tmp_path / "out")
    assert len(table(tmp_path / "out")) == 4
    assert int((tmp_path / "squeue.count").read_text()) > 3


def test_a_setup_line_that_fails_ends_the_job_with_its_words(cluster, tmp_path) -> None:
    lines = 'hydra.launcher.setup=["export KEY=s3cret # a comment","module load cuda/99"]'
    submitted = launch(*GRID, "steps=20", *SLURM, lines, f"output_dir={tmp_path}")
    assert submitted.returncode == 0, submitted.stderr
    assert vs("wait", "grid", "--output-dir", tmp_path).returncode == 1
    said = status(tmp_path)
    assert said.startswith("grid: 4 lost\n")
    assert "this line of hydra.launcher.setup failed: module load cuda/99 (exit code 127)" in said


def test_a_job_that_asked_for_a_gpu_and_sees_none_fails_at_once(cluster, tmp_path) -> None:
    submitted = launch(*GRID, "steps=20", *SLURM, "hydra.launcher.gpus_per_node=1", f"output_dir={tmp_path}")
    assert submitted.returncode == 0, submitted.stderr
    assert vs("wait", "grid", "--output-dir", tmp_path).returncode == 1
    said = status(tmp_path)
    assert said.startswith("grid: 4 failed\n")
    assert "the job asked for a GPU, but torch sees none on n" in said
    on_the_cpu = launch(*GRID, "steps=20", *SLURM, "device=cpu", f"output_dir={tmp_path}")
    assert on_the_cpu.returncode == 0
    wait(tmp_path)


def test_points_of_arrays_that_were_cancelled_while_pending_are_pending(cluster, tmp_path) -> None:
    later = "+hydra.launcher.additional_parameters.begin=now+1hour"
    assert launch(*EIGHT[:1], "seed=0,1,2", *EIGHT[2:], *SLURM, later, f"output_dir={tmp_path}").returncode == 0
    assert status(tmp_path).startswith("grid: 3 queued\n")
    assert "jobs cancelled" in vs("cancel", "grid", "--output-dir", tmp_path).stdout
    wait_for(lambda: not cluster.run("squeue", "-h"))
    wait_for(lambda: "CANCELLED" in status(tmp_path))
    assert status(tmp_path).startswith("grid: 3 pending\n")


def test_a_time_limit_that_leaves_no_time_before_the_signal_is_refused(cluster, tmp_path) -> None:
    refused = launch(*GRID, *SLURM, "hydra.launcher.timeout_min=1", f"output_dir={tmp_path / 'out'}")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: hydra.launcher.signal_delay_s=90: must be shorter than the time limit")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("partition=nosuch", "(hydra.launcher.partition=nosuch)"),
        ("account=nosuch", "(hydra.launcher.account=nosuch)"),
        ("mem_gb=9000", "hydra.launcher.mem_gb=9000"),
    ],
)
def test_sbatchs_refusal_names_our_setting(cluster, tmp_path, argument: str, words: str) -> None:
    refused = launch(*GRID, *SLURM[:1], of_launcher(argument), f"output_dir={tmp_path / 'out'}")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert words in refused.stderr


APPTAINER = """#!/bin/sh
# Like apptainer exec, for tests: SLURM's clients are not in the container.
echo "$@" >> {log}
while [ "$1" != "/images/torch.sif" ]; do shift; done
shift
PATH={python} exec "$@"
"""


def test_a_job_in_a_container_is_requeued_by_its_script(cluster, tmp_path, monkeypatch) -> None:
    """The container has no scontrol, so the job ends with a code that makes its script put it into the queue again."""
    bin_, out = tmp_path / "bin", tmp_path / "out"
    bin_.mkdir()
    python = Path(sys.executable)
    (bin_ / "apptainer").write_text(APPTAINER.format(log=tmp_path / "apptainer.log", python=python.parent))
    (bin_ / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    image = ["container=/images/torch.sif", 'container_args=["--writable-tmpfs"]', f"python={python}"]
    submitted = launch(*LONG, *SLURM, *map(of_launcher, image), f"output_dir={out}")
    assert submitted.returncode == 0, submitted.stderr
    wait_for(lambda: has_checkpoints(out))
    cluster.run("scancel", "--signal=USR2", "--user=root")
    wait(out)
    first, second, *_ = (tmp_path / "apptainer.log").read_text().splitlines()
    assert first == second  # once at first, once after the requeue
    assert first.startswith("exec --bind ")
    assert str(out) in first
    assert f"--writable-tmpfs /images/torch.sif {python} -u -m submitit.core._submit" in first
    assert all("resumes after step" in RunFolder(run).log.read_text() for run in runs_folder(out).iterdir())
