"""Workers that share a sweep's points: each point is trained once, wherever and whenever the workers run."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import vae_sweeps
from tests.conftest import ended_command, launch_here
from tests.helpers import slurm_clients
from vae_sweeps.launch.packing import Candidate, Cost, next_pack
from vae_sweeps.runs import claims
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder

GRID = ["-m", "beta=0.1,1", "latent=2,3", "seed=0,1", "arch.hidden=[8]", "steps=40", "evaluation=none", "tracker=none"]
WAITING = [*GRID, "hydra/launcher=slurm", "sweep=grid"]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch) -> SweepFolder:
    """A sweep of eight points that were submitted, and whose job has gone."""
    slurm_clients.install(tmp_path, monkeypatch)
    assert launch_here(*WAITING, f"output_dir={tmp_path / 'out'}") == 0
    return SweepFolder.under(tmp_path / "out", "grid")


def worker(sweep: SweepFolder, *options: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).parent / "vae-sweeps"), "work", "grid", "--output-dir", str(sweep.output_dir)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *options], text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.mark.slow
def test_a_worker_trains_all_points_that_wait_and_gives_the_numbers_of_a_launch(sweep, capsys, tmp_path) -> None:
    assert vae_sweeps.results(sweep.path)["status"].tolist() == ["pending"] * 8
    ended = ended_command(capsys, "work", "grid", "--output-dir", sweep.output_dir)
    assert (ended.code, ended.err) == (0, "")
    assert "pack 1 (8 points)" in ended.out
    assert launch_here(*GRID, f"output_dir={tmp_path / 'here'}", "sweep=grid") == 0
    here, there = vae_sweeps.results(tmp_path / "here" / "sweeps" / "grid"), vae_sweeps.results(sweep.path)
    assert (
        there.set_index("run_id")["test/elbo"].sort_index().equals(here.set_index("run_id")["test/elbo"].sort_index())
    )
    assert sweep.report.exists()
    again = ended_command(capsys, "work", "grid", "--output-dir", sweep.output_dir)
    assert "grid: all points have ended" in again.out


@pytest.mark.slow
def test_two_workers_share_the_points(sweep) -> None:
    both = [worker(sweep, "--workers", "2", "--idle-exit") for _ in range(2)]
    printed = [process.communicate(timeout=120)[0] for process in both]
    assert sorted(process.returncode for process in both)[0] == 0, printed
    assert vae_sweeps.results(sweep.path)["status"].tolist() == ["done"] * 8
    for run in sweep.runs():
        steps = [row["step"] for row in run.read_rows()]
        assert steps == sorted(set(steps))
        assert not run.log.exists() or "resumes after step" not in run.log.read_text()
    # None takes more than its share, however late the other begins.
    assert "(8 points)" not in "".join(printed)
    assert "pack 1 (4 points) of grid" in printed[0] + printed[1]


@pytest.mark.slow
def test_a_patient_worker_takes_over_what_a_killed_one_leaves(sweep) -> None:
    held = worker(sweep)
    end = time.monotonic() + 60
    while not any(claims.is_held(run) for run in sweep.runs()):
        assert time.monotonic() < end
        time.sleep(0.05)
    held.send_signal(signal.SIGKILL)
    held.wait()
    other = worker(sweep)
    printed = other.communicate(timeout=120)[0]
    assert other.returncode == 0, printed
    assert {run.read_result()["status"] for run in sweep.runs()} == {"done"}


@pytest.mark.slow
def test_points_that_failed_are_left_alone(sweep, capsys) -> None:
    first, *_ = sweep.runs()
    first.write_failure("RuntimeError: none\n")
    ended = ended_command(capsys, "work", "grid", "--output-dir", sweep.output_dir)
    assert ended.code == 1
    assert first.read_result() is None
    assert all(run.read_result() for run in sweep.runs()[1:])


def test_a_worker_calls_nothing_that_a_stranger_names(sweep, capsys, tmp_path, monkeypatch) -> None:
    """The sweep's folder comes from another machine: nothing but vae-sweeps' own functions is called."""
    (tmp_path / "mischief.py").write_text("raise SystemExit('called')")
    monkeypatch.syspath_prepend(tmp_path)
    (run, *_) = sweep.runs()
    strange = replace(run.read_point(), arch={**run.read_point().arch, "_target_": "mischief.network"})
    run.config.unlink()
    run.create(strange, run.read_launch_options(), [])
    ended = ended_command(capsys, "work", "grid", "--output-dir", sweep.output_dir)
    assert ended.code == 2
    assert ended.err.startswith("error: _target_=mischief.network: is not one of vae-sweeps' own")


def test_retry_halves_the_packs_of_a_job_that_ran_out_of_memory(sweep, capsys, tmp_path) -> None:
    """Eight points were one job; with half of them, each of the two needs half of the memory."""
    slurm_clients.write(tmp_path, "sacct", "echo '7|OUT_OF_MEMORY|0:125'")
    said = ended_command(capsys, "status", "grid", "--output-dir", sweep.output_dir).out
    assert said.startswith("grid: 8 lost\n")
    assert "OUT_OF_MEMORY exit code 0:125" in said
    retried = ended_command(capsys, "retry", "grid", "--output-dir", sweep.output_dir)
    assert "a job ran out of memory; packs have at most 4 points now" in retried.out
    assert "8 points in 2 packs submitted as 2 jobs" in retried.out


@dataclass
class _Point:
    """The numbers of a candidate, for the tests below."""

    name: str
    cost: int
    latent: int = 2
    key: str = "a"
    limit: int = 32

    def candidate(self, folder: Path) -> Candidate:
        return Candidate(RunFolder(folder / self.name), self.key, self.latent, Cost(self.cost, self.cost), self.limit)


def names(points: list[_Point], num_workers: int, folder: Path) -> list[str]:
    share = sum(point.cost for point in points) / num_workers
    return [run.name for run in next_pack([point.candidate(folder) for point in points], share)]


def test_a_pack_is_at_most_a_share_of_the_work(tmp_path) -> None:
    points = [_Point(str(i), 1) for i in range(12)]
    assert len(names(points, 3, tmp_path)) == 4
    assert len(names(points, 1, tmp_path)) == 12
    assert len(names(points, 100, tmp_path)) == 1
    assert names([], 3, tmp_path) == []


def test_points_that_cost_most_go_first(tmp_path) -> None:
    cheap, dear = [_Point(f"a{i}", 1) for i in range(9)], [_Point(f"b{i}", 30, key="b") for i in range(3)]
    # All points cost 99, a worker's share is 33: one of the dear ones.
    assert names([*cheap, *dear], 3, tmp_path) == ["b0"]


def test_a_pack_respects_its_members_limits(tmp_path) -> None:
    assert len(names([_Point(str(i), 1, limit=2) for i in range(6)], 1, tmp_path)) == 2
