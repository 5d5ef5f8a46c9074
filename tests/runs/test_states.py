"""The states of a sweep's points, from its folders alone."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import ended_command, launch, make_options, make_point
from tests.helpers import report_runs
from vae_sweeps.runs import states
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files, lease

STATES = ["done", "diverged", "failed", "running", "interrupted", "pending"]


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    """A sweep, grid, with a point in every state that needs no cluster."""
    sweep = SweepFolder.under(tmp_path, "grid")
    sweep.add([f"run-{state}" for state in STATES], ["seed"])
    for seed, (state, run) in enumerate(zip(STATES, sweep.runs(), strict=True)):
        run.create(make_point(f"seed={seed}"), make_options(), [])
        if state in ("done", "diverged"):
            run.write_result({"status": state, "step": 7, "metrics": {}})
        elif state == "failed":
            run.write_failure("Traceback\n  ...\nValueError: this is why\n")
        elif state == "running":
            assert lease.take(run.path)
            files.append_line(run.rows, {"step": 30, "num_steps": 120})
        elif state == "interrupted":
            run.checkpoint.touch()
    return sweep


def test_status_shows_every_state_with_its_reason(sweep, capsys) -> None:
    ended = ended_command(capsys, "status", "grid", "--output-dir", sweep.output_dir)
    assert (ended.code, ended.err) == (0, "")
    first, *lines = ended.out.splitlines()
    assert first == "grid: 1 done, 1 diverged, 1 failed, 1 running, 1 interrupted, 1 pending"
    assert "  diverged     run-diverged  at step 7" in lines
    assert "  failed       run-failed  ValueError: this is why" in lines
    assert "  running      run-running  25 %" in lines
    assert len(lines) == 4


def test_status_of_all_sweeps_prints_one_line_each_and_changes_nothing(sweep, capsys) -> None:
    output_dir = sweep.output_dir
    SweepFolder.under(output_dir, "another").add(["run-done"], [])
    before = {path: path.stat().st_mtime_ns for path in output_dir.rglob("*")}
    ended = ended_command(capsys, "status", "--output-dir", output_dir)
    assert [line.split(":")[0] for line in ended.out.splitlines()] == ["another", "grid"]
    assert {path: path.stat().st_mtime_ns for path in output_dir.rglob("*")} == before
    nothing = ended_command(capsys, "status", "--output-dir", output_dir / "empty")
    assert nothing.out == f"{output_dir / 'empty'} has no sweeps\n"


def test_waiting_asks_slurm_less_and_less_and_opens_one_file_a_second(sweep, tmp_path, monkeypatch) -> None:
    """A job that trains for ten minutes of a clock that only `sleep` moves."""
    clock, opened = [0.0], list[RunFolder]()

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(states, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    tools, asked = tmp_path / "bin", tmp_path / "asked"
    tools.mkdir()
    (tools / "squeue").write_text(
        f"#!/bin/sh\necho x >> {asked}\n[ $(/usr/bin/wc -l < {asked}) -gt 25 ] || echo '12_0|RUNNING|None'\n"
    )
    (tools / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    sweep.log_submission({"12_0": ["run-pending", "run-interrupted", "run-running"]}, {})
    lease.remove(lease.all_of(sweep.run("run-running").path)[0])
    has_ended = RunFolder.has_ended
    monkeypatch.setattr(RunFolder, "has_ended", lambda run: opened.append(run) or has_ended(run))
    ended = states.wait(sweep)
    assert [point.state for point in ended].count("running") == 0
    assert clock[0] > 500
    assert len(asked.read_text().splitlines()) <= 10 + clock[0] / 30
    assert len(opened) <= 1.1 * clock[0]


def test_waiting_ends_with_the_evaluation_of_the_last_job(tmp_path, monkeypatch, caplog) -> None:
    """All points are done, one job still evaluates, and another that nobody needs any more waits for resources."""
    sweep, tools, asked = report_runs.make_sweep(tmp_path, num_seeds=1), tmp_path / "bin", tmp_path / "asked"
    tools.mkdir()
    (tools / "squeue").write_text(
        f"#!/bin/sh\necho x >> {asked}\necho '13|PENDING|Resources'\n"
        f"[ $(/usr/bin/wc -l < {asked}) -gt 3 ] || echo '12|RUNNING|None'\n"
    )
    (tools / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(states, "time", SimpleNamespace(monotonic=float, sleep=lambda _: None))
    sweep.log_submission({"12": [run.name for run in sweep.runs()], "13": [sweep.runs()[0].name]}, {})
    with caplog.at_level("INFO"):
        ended = states.wait(sweep)
    assert {point.state for point in ended} == {"done"}
    assert len(asked.read_text().splitlines()) == 4
    assert caplog.messages == [f"{sweep.name}: 4 done", f"{sweep.name}: waiting for the last evaluations"]


def test_a_run_is_lost_if_its_job_is_no_longer_in_the_queue(sweep, capsys, tmp_path, monkeypatch) -> None:
    """squeue answers with an empty queue, as it does for jobs that ended long ago."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "squeue").write_text("#!/bin/sh\n")
    (tools / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    sweep.log_submission({"12_0": ["run-pending", "run-interrupted"]}, {})
    ended = ended_command(capsys, "status", "grid", "--output-dir", sweep.output_dir)
    assert "1 preempted, 1 lost" in ended.out
    assert "  lost         run-pending  job 12_0  its job is no longer in the queue" in ended.out


FRAGILE = """
import os
from vae_sweeps.likelihoods import Gaussian

class Fragile(Gaussian):
    def log_prob(self, params, x):
        is_trial = len(x) < 16  # of a few images, before anything is written
        assert is_trial or os.path.exists(os.environ["CAUSE_IS_GONE"]) or 0.5 not in self.sigma, "sigma is one half"
        return super().log_prob(params, x)
"""


@pytest.mark.slow
def test_retry_trains_only_the_points_that_failed(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CAUSE_IS_GONE", str(tmp_path / "gone"))
    out = tmp_path / "out"
    sigmas = ["likelihood=gaussian", "likelihood._target_=fragile.Fragile", "likelihood.sigma=0.1,0.5,1"]
    small = ["arch.hidden=[16]", "steps=20", "evaluation=none", "sweep=grid", f"output_dir={out}"]
    assert launch("-m", *sigmas, *small).returncode == 1
    assert ended_command(capsys, "status", "grid", "--output-dir", out).out.startswith("grid: 2 done, 1 failed\n")
    results = {path: path.stat().st_mtime_ns for path in out.rglob("result.json")}
    (tmp_path / "gone").touch()
    assert "is not one of vae-sweeps' own" in ended_command(capsys, "retry", "grid", "--output-dir", out).err
    assert ended_command(capsys, "retry", "grid", "--trust", "--output-dir", out).code == 0
    assert ended_command(capsys, "status", "grid", "--output-dir", out).out.startswith("grid: 3 done\n")
    assert {path: path.stat().st_mtime_ns for path in results} == results
    assert "nothing to retry" in ended_command(capsys, "retry", "grid", "--output-dir", out).out
