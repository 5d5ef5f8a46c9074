"""What a job says about itself in the sweep's folder while it works."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vae_sweeps.launch.reporting import reported
from vae_sweeps.runs import cleanup, running_jobs
from vae_sweeps.runs.running_jobs import RunningJob
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import memory
from vae_sweeps.system.usage import Meter

CPU = torch.device("cpu")


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    sweep = SweepFolder.under(tmp_path, "grid")
    sweep.add(["run"], [])
    return sweep


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.005)


def test_a_job_has_one_file_while_it_works_and_renews_it(sweep: SweepFolder) -> None:
    with reported(sweep, CPU, every_s=0.01):
        until(lambda: running_jobs.read(sweep))
        (path,) = sweep.running.glob("*.json")
        (job,) = running_jobs.read(sweep)
        assert (job.job, job.kind, job.count) == (f"process {os.getpid()}", "core", torch.get_num_threads())
        assert job.memory_bytes is not None
        assert 0 < job.memory_bytes < memory.memory_bytes() == job.memory_total_bytes
        first = path.stat().st_ino
        until(lambda: path.exists() and path.stat().st_ino != first)
    assert not sweep.running.exists()


def test_a_job_of_slurm_goes_by_its_task_as_squeue_names_it(sweep: SweepFolder, monkeypatch) -> None:
    task = {"SLURM_JOB_ID": "78", "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "1"}
    for name, value in ({"SUBMITIT_EXECUTOR": "slurm"} | task).items():
        monkeypatch.setenv(name, value)
    with reported(sweep, CPU):
        until(lambda: running_jobs.read(sweep))
        assert [job.job for job in running_jobs.read(sweep)] == ["77_1"]
        assert sweep.running_job("77_1").exists()


def test_the_file_of_a_killed_job_is_removed_by_the_next_one_that_ends(sweep: SweepFolder) -> None:
    for job in ("1", "2"):
        running_jobs.write(sweep, job, RunningJob(job, "n1", "core", 1, "CPU"))
    long_ago = time.time() - 1000
    os.utime(sweep.running_job("1"), (long_ago, long_ago))
    with reported(sweep, CPU):
        pass
    assert list(sweep.running.iterdir()) == [sweep.running_job("2")]


def test_clean_removes_the_file_of_a_killed_job(sweep: SweepFolder) -> None:
    for job in ("1", "2"):
        running_jobs.write(sweep, job, RunningJob(job, "n1", "core", 1, "CPU"))
    long_ago = time.time() - 1000
    os.utime(sweep.running_job("1"), (long_ago, long_ago))
    assert [path for removal in cleanup.find(sweep).removals for path in removal.paths] == [sweep.running_job("1")]


def test_a_job_works_where_the_file_cannot_be_written_and_says_so_once(sweep: SweepFolder, caplog, monkeypatch) -> None:
    monkeypatch.setattr(logging.getLogger("vae_sweeps"), "propagate", True)
    sweep.running.write_text("not a folder")
    with reported(sweep, CPU, every_s=0.001):
        until(lambda: caplog.records)
        sweep.running.unlink()
        until(lambda: running_jobs.read(sweep))  # it goes on trying
    ((_, text),) = {(record.created, record.getMessage()) for record in caplog.records}  # two handlers may capture it
    assert text.startswith(f"{sweep.running}/")
    assert text.endswith("cannot be written (File exists)")


def test_the_utilisation_of_a_cpu_is_the_share_of_its_time_that_this_process_took() -> None:
    """Measured around the meter's own measurement, which must lie between."""
    outer, cpu_s = time.monotonic(), time.process_time()
    meter = Meter(CPU)
    inner, inner_cpu_s = time.monotonic(), time.process_time()
    assert meter.measure().utilisation is None  # nothing can be said about a moment
    while time.monotonic() < inner + 1:
        pass
    low = (time.process_time() - inner_cpu_s, time.monotonic() - inner)
    found = meter.measure().utilisation
    high = (time.process_time() - cpu_s, time.monotonic() - outer)
    assert found is not None
    share = found * torch.get_num_threads() / 100
    assert low[0] / high[1] <= share <= high[0] / low[1]
