"""The speed, the end and the cost of a sweep, from folders that were written by hand."""

import os
import time
from pathlib import Path

import pytest

from tests.conftest import ended_command, make_options, make_point
from vae_sweeps.runs import forecast, monitor, running_jobs, states
from vae_sweeps.runs.forecast import Forecast
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.running_jobs import RunningJob
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files, lease

NOON = time.mktime((2031, 5, 6, 12, 0, 0, 0, 0, -1))


def make_sweep(tmp_path: Path, num_points: int) -> tuple[SweepFolder, list[RunFolder]]:
    sweep = SweepFolder.under(tmp_path, "grid")
    sweep.add([f"run-{i}" for i in range(num_points)], ["seed"])
    for seed, run in enumerate(sweep.runs()):
        run.create(make_point(f"seed={seed}"), make_options(), [])
    return sweep, sweep.runs()


def end(run: RunFolder, time_s: float, status: str = "done", **more: object) -> None:
    run.write_result({"status": status, "step": 100, "time_s": time_s, "num_devices": 1, "metrics": {}, **more})


def train(run: RunFolder, step: int, **cost: float) -> None:
    """Rows up to `step` of 100; an earlier one costs less."""
    for share in (0.5, 1.0):
        row = {"step": round(step * share), "num_steps": 100}
        files.append_line(run.rows, row | {name: value * share for name, value in cost.items()})


def of(sweep: SweepFolder) -> Forecast:
    return forecast.of_sweep(states.of_sweep(sweep), running_jobs.read(sweep))


def start_job(sweep: SweepFolder, job: str, kind: str = "gpu", count: int = 1) -> None:
    running_jobs.write(sweep, job, RunningJob(job, "n1", kind, count, "H100"))  # type: ignore[arg-type]


def test_a_pack_of_two_points_is_counted_once(tmp_path) -> None:
    """A pack of two took an hour, of which each point's share is a half. Two points are left, and one GPU works."""
    sweep, runs = make_sweep(tmp_path, 4)
    for run in runs[:2]:
        end(run, 1800, device="H100", gpu_s=1800.0)
    start_job(sweep, "7_0")
    assert of(sweep) == Forecast("gpu", 3600, True, expected_s=7200, points_per_h=2, left_s=3600)


def test_two_jobs_are_twice_as_fast_as_one(tmp_path) -> None:
    sweep, runs = make_sweep(tmp_path, 4)
    end(runs[0], 1800, device="H100", gpu_s=1800.0)
    start_job(sweep, "7_0")
    start_job(sweep, "7_1")
    assert of(sweep) == Forecast("gpu", 1800, True, expected_s=7200, points_per_h=4, left_s=2700)


def test_a_job_of_two_gpus_costs_two(tmp_path) -> None:
    """Its time counts for each of its GPUs, but its evaluation runs on one."""
    sweep, runs = make_sweep(tmp_path, 2)
    end(runs[0], 1000, device="H100", gpu_s=2000.0, num_devices=2, evaluation_s={"fid": 70.0, "kid": 30.0})
    start_job(sweep, "7", count=2)
    assert of(sweep) == Forecast("gpu", 2100, True, expected_s=4200, points_per_h=2 * 3600 / 2100, left_s=1050)


def test_on_cpus_cores_are_counted(tmp_path) -> None:
    """Training in two processes of two threads; the evaluation uses one process."""
    sweep, runs = make_sweep(tmp_path, 2)
    end(runs[0], 100, device="cpu", core_s=400.0, num_devices=2, evaluation_s={"fid": 50.0})
    start_job(sweep, "7", "core", 4)
    assert of(sweep) == Forecast("core", 500, True, expected_s=1000, points_per_h=4 * 3600 / 500, left_s=125)


def test_points_on_the_way_go_on_at_their_own_speed(tmp_path) -> None:
    """Of 100 steps, a running point did 25 in 100 s and an interrupted one 50 in 100 s; a third has not begun.

    So a point costs 200 s in 0.75 points, and the rest 300 s, 100 s and 266.7 s.
    """
    sweep, runs = make_sweep(tmp_path, 3)
    train(runs[0], 25, gpu_s=100.0)
    assert lease.take(runs[0].path)
    train(runs[1], 50, gpu_s=100.0)
    runs[1].checkpoint.touch()
    start_job(sweep, "7")
    assert [point.state for point in states.of_sweep(sweep)] == ["running", "interrupted", "pending"]
    found = of(sweep)
    assert found.used_s == 200
    assert found.left_s == pytest.approx(300 + 100 + 200 / 0.75)
    assert found.expected_s == pytest.approx(200 + 300 + 100 + 200 / 0.75)
    assert found.points_per_h == pytest.approx(3600 / (200 / 0.75))


def test_points_that_failed_or_diverged_have_cost_something_but_nothing_is_left_of_them(tmp_path) -> None:
    sweep, runs = make_sweep(tmp_path, 4)
    end(runs[0], 100, device="H100", gpu_s=100.0)
    end(runs[1], 7, "diverged", device="H100", gpu_s=7.0)
    train(runs[2], 50, gpu_s=13.0)
    runs[2].write_failure("ValueError: no")
    start_job(sweep, "7")
    assert of(sweep) == Forecast("gpu", 120, True, expected_s=220, points_per_h=36, left_s=100)


@pytest.mark.parametrize("running", [["7_0", "7_1"], ["7_1", "7_2"]])
def test_the_end_is_not_before_that_of_the_job_with_the_most_to_do(tmp_path, monkeypatch, running) -> None:
    """Job 7_0, which runs or waits, has three of the points that are left, and 7_1 one: it cannot help."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "squeue").write_text("#!/bin/sh\necho '7_0|RUNNING|None'\necho '7_1|RUNNING|None'\n")
    (tools / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    sweep, runs = make_sweep(tmp_path, 5)
    sweep.log_submission({"7_0": [run.name for run in runs[:3]], "7_1": [run.name for run in runs[3:]]}, {})
    end(runs[4], 100, device="H100", gpu_s=100.0)
    for job in running:
        start_job(sweep, job)
    assert of(sweep).left_s == 300


def test_without_a_row_no_end_is_known(tmp_path) -> None:
    sweep, _ = make_sweep(tmp_path, 2)
    start_job(sweep, "7")
    assert of(sweep) == Forecast("gpu", 0, True)
    assert forecast.described(of(sweep)) == []


def test_without_a_job_no_end_is_known(tmp_path) -> None:
    """A job that has not renewed its file for three minutes was killed."""
    sweep, runs = make_sweep(tmp_path, 2)
    end(runs[0], 3600, device="H100", gpu_s=3600.0)
    start_job(sweep, "7")
    assert of(sweep).left_s == 3600
    long_ago = time.time() - 200
    os.utime(sweep.running_job("7"), (long_ago, long_ago))
    assert of(sweep) == Forecast("gpu", 3600, True, expected_s=7200)
    assert forecast.described(of(sweep)) == ["GPU hours: 1.0 used, 2.0 expected"]


def test_results_of_earlier_releases_are_read(tmp_path) -> None:
    """They have no `gpu_s` and no `core_s`. On a CPU they do not say how many cores were used."""
    sweep, runs = make_sweep(tmp_path, 2)
    end(runs[0], 1800, device="H100", num_devices=4)
    assert of(sweep).used_s == 4 * 1800
    assert forecast.described(of(sweep))[0].startswith("GPU hours: 2.0 used")
    end(runs[0], 1800, device="cpu")
    end(runs[1], 1800, device="cpu", core_s=3600.0)
    assert forecast.described(of(sweep)) == ["CPU core hours: at least 1.0 used"]


@pytest.mark.parametrize(
    ("left_s", "end"),
    [
        (0, "12:00 (in 1 min)"),
        (25 * 60, "12:25 (in 25 min)"),
        (5 * 3600, "17:00 (in 5 h)"),
        (20 * 3600, "2031-05-07 08:00 (in 20 h)"),
        (50 * 3600, "2031-05-08 14:00 (in 2 days)"),
        (1e12, "in more than ten years"),
    ],
)
def test_the_expected_end_is_a_time_and_a_span(left_s: float, end: str) -> None:
    lines = forecast.described(Forecast("gpu", 36, True, 360_000, 12.3, left_s), now=NOON)
    assert lines == [f"12 points an hour; expected end: {end}", "GPU hours: 0.01 used, 100 expected"]


def test_status_shows_the_end_the_cost_and_the_jobs(tmp_path, capsys) -> None:
    sweep, runs = make_sweep(tmp_path, 2)
    end(runs[0], 90, device="H100", gpu_s=360.0)
    job = RunningJob("8_0", "node07", "gpu", 1, "NVIDIA H100 80GB HBM3", 41.2e9, 85e9, 97.0)
    running_jobs.write(sweep, "8_0", job)
    running_jobs.write(sweep, "8_11", RunningJob("8_11", "n8", "core", 2, "EPYC", 1.21e9, 32e9, 5.4))
    ended = ended_command(capsys, "status", "grid", "--output-dir", sweep.output_dir)
    first, line, *lines = ended.out.splitlines()
    assert first == "grid: 1 done, 1 pending"
    assert line.startswith("  10 points an hour; expected end: ")
    assert line.endswith(" (in 6 min)")
    assert lines == [
        "  GPU hours: 0.10 used, 0.20 expected",
        "  job 8_0   node07  NVIDIA H100 80GB HBM3   97 % busy  41 GB of 85 GB memory",
        "  job 8_11  n8      2 cores of EPYC          5 % busy  1.2 GB of 32 GB memory",
    ]


def test_files_of_jobs_that_are_not_ours_are_left_out(tmp_path) -> None:
    """Such as one that would write control characters to the terminal."""
    sweep, _ = make_sweep(tmp_path, 1)
    good = RunningJob("7", "n1", "gpu", 1, "H100")
    running_jobs.write(sweep, "7", good)
    running_jobs.write(sweep, "8", RunningJob("8", "n1", "gpu", 1, "\x1b[2J"))
    running_jobs.write(sweep, "9", RunningJob("9", "n1", "gpu", -1, "H100"))
    for name, content in (("10", "[]"), ("11", "{"), ("12", '{"job": 1}'), ("13", "[" * 9000)):
        sweep.running_job(name).write_text(content)
    assert running_jobs.read(sweep) == [good]


def test_a_status_reads_each_result_once_and_the_end_of_each_file_of_rows(tmp_path, monkeypatch) -> None:
    sweep, runs = make_sweep(tmp_path, 2)
    end(runs[0], 90, device="H100", gpu_s=360.0)
    train(runs[1], 50, gpu_s=100.0)
    read = []
    original = RunFolder.unseal_result
    monkeypatch.setattr(RunFolder, "unseal_result", lambda run: (read.append(run), original(run))[1])
    assert monitor.described(sweep, states.of_sweep(sweep))
    assert read.count(runs[0]) == 1
