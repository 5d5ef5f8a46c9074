"""Grids on a real SLURM: they finish with the same numbers after every kind of interruption."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import launch, start_launch, vs
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
    steps_of,
    table,
    wait,
    wait_for,
)
from tests.helpers.wandb_runs import assert_same
from tests.helpers.wandb_server import WandbServer
from vae_sweeps.runs import running_jobs
from vae_sweeps.runs.run_folder import RunFolder, runs_folder
from vae_sweeps.runs.sweep_folder import SweepFolder

pytestmark = NEEDS_SLURM


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(grace_s=30) as up:
        yield up


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The output folder of the long grid, trained by the local launcher on one thread."""
    output_dir = tmp_path_factory.mktemp("undisturbed")
    assert launch(*LONG, f"output_dir={output_dir}").returncode == 0
    return output_dir


def test_a_submitted_grid_gives_the_numbers_of_the_local_launcher(cluster, tmp_path) -> None:
    short, here, there = [*GRID, "steps=200"], tmp_path / "here", tmp_path / "there"
    submitted = launch(*short, *SLURM, f"output_dir={there}")
    assert submitted.returncode == 0, submitted.stderr
    assert "4 points in 1 pack submitted as 1 job" in submitted.stdout
    assert "vae-sweeps status grid --output-dir" in submitted.stdout
    again = launch(*short, *SLURM, f"output_dir={there}")
    assert "nothing to submit" in again.stdout
    wait(there)
    (log,) = (there / "sweeps" / "grid" / "jobs").glob("*_log.out")
    assert "\x1b" not in log.read_text()  # no frames of progress bars
    assert launch(*short, f"output_dir={here}").returncode == 0
    pd.testing.assert_frame_equal(table(there), table(here), check_exact=True)
    wait_for(lambda: (there / "sweeps" / "grid" / "mosaic.png").exists())

    extended = [argument.replace("latent=2,5", "latent=2,5,3") for argument in short]
    more = launch(*extended, *SLURM, f"output_dir={there}")
    assert "4 of 6 points already done" in more.stdout
    assert "2 points in 1 pack submitted as 1 job" in more.stdout
    wait(there)
    assert len(table(there)) == 6
    status = vs("status", "grid", "--output-dir", there)
    assert status.stdout.startswith("grid: 6 done\n  CPU core hours: ")


def runs_by_point(output_dir: Path) -> list[Path]:
    """Run folders, sorted by their readable names."""
    return sorted(runs_folder(output_dir).iterdir(), key=lambda run: run.name.rsplit("-", 1)[0])


def submit_long(output_dir: Path, *more: str) -> None:
    submitted = launch(*LONG, *SLURM, *more, f"output_dir={output_dir}")
    assert submitted.returncode == 0, submitted.stderr
    wait_for(lambda: has_checkpoints(output_dir))


def assert_undisturbed(output_dir: Path, undisturbed: Path, *, min_resumes: int = 1) -> None:
    """Wait for the grid; its numbers are bit-identical to the undisturbed grid, and no step was logged twice."""
    wait(output_dir)
    pd.testing.assert_frame_equal(table(output_dir), table(undisturbed), check_exact=True)
    assert sorted(steps_of(output_dir)) == sorted(steps_of(undisturbed))
    for run in runs_folder(output_dir).iterdir():
        assert (run / "log.txt").read_text().count("resumes after step") >= min_resumes


def test_usr2_saves_and_requeues(cluster, undisturbed, tmp_path) -> None:
    submit_long(tmp_path)
    cluster.run("scancel", "--signal=USR2", "--user=root")
    assert_undisturbed(tmp_path, undisturbed)


def test_a_preempted_pack_resumes(cluster, undisturbed, tmp_path, monkeypatch) -> None:
    """SLURM sends SIGTERM and SIGCONT, and ends the job after the grace time. Each point remains one run on W&B."""
    with WandbServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        submit_long(tmp_path, "hydra.launcher.partition=low", "hydra.launcher.timeout_min=30")
        cluster.run("sbatch", "-p", "high", "-N", "3", "-c", "4", "--wrap", "sleep 5", "-o", "/dev/null")
        assert_undisturbed(tmp_path, undisturbed)
        wait_for(lambda: not cluster.run("squeue", "-h", "-p", "low"))  # points are done before their job ends
        assert_same(server, tmp_path)
        # W&B's process must be restarted within the grace time, which need not be enough for all runs.
        assert any(run.num_preempting for run in server.runs.values())


def test_two_tasks_train_a_pack_and_are_requeued_together(cluster, tmp_path) -> None:
    """In double precision, so that the different order of sums in two processes changes the numbers least."""
    double, here, there = [*LONG, "steps=1000", "precision=fp64"], tmp_path / "here", tmp_path / "there"
    submitted = launch(*double, *SLURM, "devices=2", f"output_dir={there}")
    assert submitted.returncode == 0, submitted.stderr
    wait_for(lambda: has_checkpoints(there))
    assert "NumTasks=2" in cluster.run("scontrol", "show", "job")
    cluster.run("scancel", "--signal=USR2", "--user=root")
    wait(there)
    assert launch(*double, f"output_dir={here}").returncode == 0
    pd.testing.assert_frame_equal(table(there), table(here), check_exact=False, rtol=1e-6)
    assert sorted(steps_of(there)) == sorted(steps_of(here))
    for run in runs_folder(there).iterdir():
        assert "resumes after step" in (run / "log.txt").read_text()


def worker(output_dir: Path) -> int:
    """The process that trains the grid."""
    (run, *_) = runs_folder(output_dir).iterdir()
    (owner,) = run.glob(".claim-*/owner.json")
    return json.loads(owner.read_text())["pid"]


def test_a_job_resumes_after_its_time_limit(cluster, undisturbed, tmp_path) -> None:
    """SLURM checks limits every half minute. Until then the process is stopped, since the grid would be done."""
    limits = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=55", "hydra.launcher.max_num_timeout=50"]
    submit_long(tmp_path, *limits)
    os.kill(worker(tmp_path), signal.SIGSTOP)  # SLURM continues it to send it the signal
    assert_undisturbed(tmp_path, undisturbed)


def test_points_of_a_job_without_requeues_left_can_be_retried(cluster, undisturbed, tmp_path) -> None:
    limits = ["timeout_min=2", "signal_delay_s=60", "max_num_timeout=0", "max_num_successors=0"]
    submit_long(tmp_path, *map(of_launcher, limits))
    cluster.run("scancel", "--signal=USR2", "--user=root")  # a time limit, since SLURM may signal it a minute early
    ended = vs("wait", "grid", "--output-dir", tmp_path)
    assert ended.returncode == 1
    assert "4 preempted" in ended.stdout
    # Where the machine is slow, the time limit is reached once more.
    for _ in range(4):
        assert vs("retry", "grid", "--output-dir", tmp_path).returncode == 0
        if vs("wait", "grid", "--output-dir", tmp_path).returncode == 0:
            break
    assert_undisturbed(tmp_path, undisturbed)


def test_points_of_a_killed_worker_resume_in_the_next_launch(cluster, undisturbed, tmp_path) -> None:
    submit_long(tmp_path)
    os.kill(worker(tmp_path), signal.SIGKILL)
    assert vs("wait", "grid", "--output-dir", tmp_path).returncode == 1
    lost = vs("status", "grid", "--output-dir", tmp_path).stdout
    assert lost.startswith("grid: 4 lost\n")
    assert launch(*LONG, *SLURM, f"output_dir={tmp_path}").returncode == 0
    assert_undisturbed(tmp_path, undisturbed)


def test_a_job_on_a_failed_node_resumes_on_another_node(cluster, undisturbed, tmp_path) -> None:
    submit_long(tmp_path)
    (node,) = cluster.run("squeue", "-h", "-o", "%N").split()
    cluster.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    cluster.run("scontrol", "update", f"nodename={node}", "state=resume")
    assert_undisturbed(tmp_path, undisturbed)


def test_a_killed_slurmd_does_not_change_the_numbers(cluster, undisturbed, tmp_path) -> None:
    """The job keeps running without slurmd. The requeued job, on another node, respects the claims of the first one."""
    submit_long(tmp_path)
    (node,) = cluster.run("squeue", "-h", "-o", "%N").split()
    cluster.stop(f"slurmd-{node}", signal.SIGKILL)
    assert_undisturbed(tmp_path, undisturbed, min_resumes=0)
    cluster.start_node(int(node.removeprefix("n")))
    wait_for(lambda: cluster.num_ready() == cluster.num_nodes)


def test_a_cancelled_sweep_stays_cancelled_and_can_be_retried(cluster, undisturbed, tmp_path) -> None:
    submit_long(tmp_path)
    assert "jobs cancelled: " in vs("cancel", "grid", "--output-dir", tmp_path).stdout
    wait_for(lambda: not cluster.run("squeue", "-h"))
    assert vs("status", "grid", "--output-dir", tmp_path).stdout.startswith("grid: 4 preempted\n")
    assert vs("retry", "grid", "--output-dir", tmp_path).returncode == 0
    assert_undisturbed(tmp_path, undisturbed)


FRAGILE = """
import os
import torch
from vae_sweeps.likelihoods import Gaussian

class Fragile(Gaussian):
    def log_prob(self, params, x):
        is_trial = len(x) < 16  # of a few images, on the machine that launches
        assert is_trial or os.path.exists(os.environ["ERROR_IS_FIXED"]) or 0.5 not in self.sigma, "sigma is one half"
        diverges = torch.zeros_like(self.sigma, dtype=torch.bool) if is_trial else self.sigma == 0.7
        return super().log_prob(params, x).masked_fill(diverges.unsqueeze(1), torch.nan)
"""


def test_failed_points_do_not_affect_the_others_and_can_be_retried(cluster, tmp_path, monkeypatch) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("ERROR_IS_FIXED", str(tmp_path / "fixed"))
    sigmas = ["likelihood=gaussian", "likelihood._target_=fragile.Fragile", "likelihood.sigma=0.1,0.5,0.7,1,2,3"]
    out = tmp_path / "out"
    six = ["-m", *sigmas, "sweep=grid", *SMALL, "steps=60", f"output_dir={out}", *SLURM]
    waited = launch(*six, "hydra.launcher.wait=true")
    assert waited.returncode == 1, waited.stderr
    assert "6 points in 1 pack submitted as 1 job" in waited.stdout
    status = vs("status", "grid", "--output-dir", out).stdout
    assert status.startswith("grid: 4 done, 1 diverged, 1 failed\n")
    assert "AssertionError: sigma is one half" in status
    assert "at step 1" in status
    (failed,) = out.glob("runs/*/failure.txt")
    assert "Traceback" in failed.read_text()
    before = {run: (run / "result.json").stat().st_mtime_ns for run in runs_done(out)}
    (tmp_path / "fixed").touch()
    assert vs("retry", "grid", "--output-dir", out).returncode == 0
    vs("wait", "grid", "--output-dir", out)
    assert {run: (run / "result.json").stat().st_mtime_ns for run in before} == before
    assert vs("status", "grid", "--output-dir", out).stdout.startswith("grid: 5 done, 1 diverged\n")


def runs_done(output_dir: Path) -> list[Path]:
    return [run for run in runs_folder(output_dir).iterdir() if RunFolder(run).read_result()]


def test_two_concurrent_launches_train_every_point_once(cluster, tmp_path) -> None:
    arguments = [*GRID, "steps=400", *SLURM, f"output_dir={tmp_path}"]
    for process in [start_launch(*arguments) for _ in range(2)]:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, f"{out} {err}"
    wait(tmp_path)
    wait_for(lambda: not cluster.run("squeue", "-h"))
    for run in runs_folder(tmp_path).iterdir():
        assert "resumes after step" not in (run / "log.txt").read_text()
        steps = [row["step"] for row in RunFolder(run).read_rows()]
        assert steps == sorted(set(steps))


def test_jobs_say_what_they_use_and_the_last_one_calls_the_hook(cluster, tmp_path) -> None:
    """Two jobs of two points each; the hook adds a line to a file."""
    called, output_dir = tmp_path / "called", tmp_path / "out"
    hook = f"on_end=['cat >> {called}; echo >> {called}']"
    submit_long(output_dir, "hydra.launcher.packs=2", hook, "steps=6000")  # they train while status is asked twice
    sweep = SweepFolder.under(output_dir, "grid")
    wait_for(lambda: len(running_jobs.read(sweep)) == 2)
    tasks = set(sweep.submitted().task_of.values())
    assert {(job.job, job.kind, job.count) for job in running_jobs.read(sweep)} == {(task, "core", 1) for task in tasks}
    wait_for(lambda: "expected end: " in vs("status", "grid", "--output-dir", output_dir).stdout)
    status = vs("status", "grid", "--output-dir", output_dir).stdout
    assert all(f"\n  job {task}  " in status for task in tasks), status
    wait(output_dir)
    wait_for(lambda: not cluster.run("squeue", "-h"))
    (summary,) = map(json.loads, called.read_text().splitlines())
    assert (summary["sweep"], summary["counts"]) == ("grid", {"done": 4})
    assert not sweep.running.exists()
    assert len(sweep.endings()) == 1
