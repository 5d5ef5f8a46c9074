"""W&B mirrors the run folders row by row, through kills and outages of the server."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, launch, make_options, start_launch, wait_until
from tests.helpers.wandb_runs import assert_same, local_row, numbers
from tests.helpers.wandb_server import KEY, WandbServer
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.tracker import offline_files
from vae_sweeps.tracker.link import Link

pytestmark = pytest.mark.slow

GRID = ["-m", "beta=0.01,1", "latent=2,5", "arch.hidden=[16]", "evaluation=none", "sweep=grid"]
SHORT = [*GRID, "steps=150", "log_every_steps=20"]
LONG = [*GRID, "batch_size=16", "steps=2500", "log_every_steps=50", "checkpoint_every_s=0.5"]


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as serving:
        yield serving
        assert serving.unknown == []


def command(output_dir: Path, server: WandbServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`vae-sweeps ...` with a key, in a separate process, because wandb supports one server per process."""
    program = [sys.executable, "-c", "from vae_sweeps.cli.app import app; app()"]
    environment = os.environ | server.environment()
    words = [*program, *arguments, "--output-dir", str(output_dir)]
    return subprocess.run(words, cwd=output_dir, env=environment, capture_output=True, text=True, timeout=300)


def sync(output_dir: Path, server: WandbServer, *options: str) -> subprocess.CompletedProcess[str]:
    """`vae-sweeps sync grid`."""
    return command(output_dir, server, "sync", "grid", *options)


def assert_no_secret(output_dir: Path) -> None:
    for path in output_dir.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def values(output_dir: Path) -> dict[str, Any]:
    """Each run's metrics."""
    return {folder.name: (folder.read_result() or {})["metrics"] for folder in all_runs(output_dir)}


@pytest.fixture(scope="module")
def untracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The short grid, trained without W&B."""
    output_dir = tmp_path_factory.mktemp("untracked")
    assert launch(*SHORT, "tracker=none", f"output_dir={output_dir}").returncode == 0
    return output_dir


def test_online(server: WandbServer, tmp_path: Path, untracked: Path) -> None:
    done = launch(*SHORT, "pictures_every_epochs=1", f"output_dir={tmp_path}", environment=server.environment())
    assert done.returncode == 0, done.stderr
    assert_same(server, tmp_path)
    assert_no_secret(tmp_path)
    assert values(tmp_path) == values(untracked)
    assert "/somebody/vae-sweeps/groups/grid" in done.stdout
    for folder in all_runs(tmp_path):
        run = server.run(folder.id)
        assert (run.project, run.job_type) == ("vae-sweeps", "train")
        beta, latent = run.config["beta"], run.config["latent"]
        assert run.name == f"beta={beta:g} latent={latent}"
        assert {f"beta={beta:g}", f"latent={latent}", "mlp", "bernoulli", "mnist5k"} <= set(run.tags)
        assert run.config["optim"]["lr"] > 0
        assert {"beta_nats", "git_commit", "num_params"} <= set(run.config)
        with_pictures = [row["epoch"] for row in run.history if "pictures/samples" in row]
        assert with_pictures == [1, 2, 150 / 55]
        assert not (folder.path / "wandb").exists()  # W&B has it, and so has the folder


def test_a_kill_neither_duplicates_nor_loses_rows(server: WandbServer, tmp_path: Path) -> None:
    arguments = [*LONG, f"output_dir={tmp_path}"]
    for at in (200, 600):
        process = start_launch(*arguments, environment=server.environment())
        wait_until(lambda at=at: len(server.runs) == 4 and all(r.last_step > at for r in server.runs.values()), process)
        process.kill()
        process.communicate()
    later = launch(*arguments, environment=server.environment())
    assert later.returncode == 0, later.stderr
    assert_same(server, tmp_path)
    assert_no_secret(tmp_path)


def test_preempted_runs_are_marked_and_resumed(server: WandbServer, tmp_path: Path) -> None:
    arguments = [*LONG, f"output_dir={tmp_path}"]
    process = start_launch(*arguments, environment=server.environment())
    wait_until(lambda: sum(folder.checkpoint.exists() for folder in all_runs(tmp_path)) == 4, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=180)
    assert process.returncode == 130
    assert {run.state for run in server.runs.values()} == {"preempted"}
    assert {run.num_preempting for run in server.runs.values()} == {1}
    for folder in all_runs(tmp_path):  # what was saved is there
        run = server.run(folder.id)
        assert [numbers(row) for row in run.history] == [local_row(row) for row in folder.read_rows()]
    assert launch(*arguments, environment=server.environment()).returncode == 0
    assert_same(server, tmp_path)


def children(pid: int) -> list[int]:
    """The child processes of all threads of a process."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def test_a_signal_while_wandb_starts_loses_nothing(
    server: WandbServer, tmp_path: Path, untracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM signals every process of a job: here the helper when it starts, and wandb's while it opens the runs."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    shutil.copytree(untracked, tmp_path, dirs_exist_ok=True)
    runs, before = all_runs(tmp_path), children(os.getpid())
    link = Link(make_options().tracker, SweepFolder.under(tmp_path, "grid"))
    link.begin({run: {} for run in runs})
    (helper,) = set(children(os.getpid())) - set(before)
    os.kill(helper, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while not server.runs:
        assert time.monotonic() < deadline, "the helper opens no run"
    for service in children(helper):
        os.kill(service, signal.SIGTERM)
    link.ended(runs)
    link.close()
    assert_same(server, tmp_path)


def test_offline_attempts_and_sync(server: WandbServer, tmp_path: Path) -> None:
    arguments = [*LONG, "tracker.mode=offline", f"output_dir={tmp_path}"]
    process = start_launch(*arguments, environment=server.environment())

    def has_rows() -> bool:
        found = [offline_files.segments_in(folder.path) for folder in all_runs(tmp_path)]
        return len(found) == 4 and all(own and len(own[0].steps) > 10 for own in found)

    wait_until(has_rows, process)
    process.kill()
    process.communicate()
    later = launch(*arguments, environment=server.environment())
    assert later.returncode == 0, later.stderr
    assert f"4 of 4 runs kept offline; to send the rest: vae-sweeps sync grid --output-dir {tmp_path}" in later.stdout
    for folder in all_runs(tmp_path):
        first, second = offline_files.segments_in(folder.path)
        assert first.steps + second.steps == [row["step"] for row in folder.read_rows()]
    assert server.runs == {}
    sent = sync(tmp_path, server)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert "on W&B: 4 of 4 runs" in sent.stdout
    assert_same(server, tmp_path)
    assert_no_secret(tmp_path)
    again = sync(tmp_path, server)
    assert "4 runs: 0 to send, 4 on W&B already" in again.stdout
    assert_same(server, tmp_path)


def test_a_broken_segment_and_one_that_was_sent_by_hand(server: WandbServer, tmp_path: Path) -> None:
    arguments = [*SHORT, "tracker.mode=offline", f"output_dir={tmp_path}"]
    assert launch(*arguments, environment=server.environment()).returncode == 0
    broken, cut, sent, *_ = [offline_files.segments_in(folder.path)[0].folder for folder in all_runs(tmp_path)]
    for folder, num_bytes in ((broken, 7), (cut, 3000)):
        (file,) = folder.glob("run-*.wandb")
        file.write_bytes(file.read_bytes()[:num_bytes])
    environment = os.environ | server.environment() | {"WANDB_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-m", "wandb", "sync", str(sent)], env=environment, check=True, capture_output=True)
    done = sync(tmp_path, server)
    assert done.returncode == 0, done.stdout
    assert "4 runs: 3 to send, 1 on W&B already" in done.stdout
    assert_same(server, tmp_path)


def test_rebuild_from_the_folders_alone(server: WandbServer, untracked: Path) -> None:
    done = sync(untracked, server, "--rebuild", "--project", "again")
    assert done.returncode == 0, done.stdout
    assert_same(server, untracked)
    assert {run.project for run in server.runs.values()} == {"again"}
    assert sync(untracked, server).stdout.startswith("4 runs: 0 to send")
    anew = sync(untracked, server, "--rebuild", "--salt", "v2")
    assert anew.returncode == 0, anew.stdout
    assert_same(server, untracked, salt="-v2")


def test_duplicate_rows_are_reported(server: WandbServer, untracked: Path) -> None:
    assert sync(untracked, server).returncode == 0
    run = next(iter(server.runs.values()))
    run.lines["wandb-history.jsonl"][len(run.history)] = run.lines["wandb-history.jsonl"][0]
    done = sync(untracked, server)
    assert done.returncode == 1
    assert "delete the run there and send it again: vae-sweeps sync --rebuild --salt NEW" in done.stdout
    assert "on W&B: 3 of 4 runs" in done.stdout


def test_a_server_that_dies_and_comes_back(server: WandbServer, tmp_path: Path) -> None:
    process = start_launch(*LONG, f"output_dir={tmp_path}", environment=server.environment())
    wait_until(lambda: len(server.runs) == 4 and all(r.last_step > 300 for r in server.runs.values()), process)
    server.stop()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.count("W&B is missing data of 4 of 4 runs") == 1
    assert f"to send the rest: vae-sweeps sync grid --output-dir {tmp_path}" in out
    refused = sync(tmp_path, server)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: W&B: http://127.0.0.1")
    server.start()
    assert sync(tmp_path, server).returncode == 0
    assert_same(server, tmp_path)


Fault = Callable[[WandbServer], dict[str, str]]


def wrong_key(server: WandbServer) -> dict[str, str]:
    return {"WANDB_API_KEY": "f" * 40}


def short_key(server: WandbServer) -> dict[str, str]:
    return {"WANDB_API_KEY": "short"}


def refused(server: WandbServer) -> dict[str, str]:
    return {"WANDB_BASE_URL": "http://127.0.0.1:9"}


def errors_for_ever(server: WandbServer) -> dict[str, str]:
    server.fail("graphql", 500)
    return {}


def too_many_requests_for_ever(server: WandbServer) -> dict[str, str]:
    server.fail("file_stream", 429)
    return {}


FAILURES: dict[Fault, str] = {
    wrong_key: "the key is refused",
    short_key: "the key is refused",
    refused: "http://127.0.0.1:9 does not answer",
    errors_for_ever: "the server does not answer in time",
    too_many_requests_for_ever: "the server does not answer in time",
}


@pytest.mark.parametrize("fault", FAILURES, ids=lambda fault: fault.__name__)
def test_failures_change_no_result_and_are_repaired_by_sync(
    fault: Fault, server: WandbServer, tmp_path: Path, untracked: Path
) -> None:
    environment = server.environment() | fault(server)
    done = launch(*SHORT, f"output_dir={tmp_path}", environment=environment)
    assert done.returncode == 0, done.stderr
    assert values(tmp_path) == values(untracked)
    (line,) = [line for line in done.stdout.splitlines() if "W&B is missing data of 4 of 4 runs" in line]
    assert FAILURES[fault] in line
    assert line.endswith(f"to send the rest: vae-sweeps sync grid --output-dir {tmp_path}")
    assert_no_secret(tmp_path)
    server.heal()
    assert sync(tmp_path, server).returncode == 0
    assert_same(server, tmp_path)


def test_temporary_errors_lose_nothing(server: WandbServer, tmp_path: Path) -> None:
    server.fail("graphql", 500, times=2)
    server.fail("file_stream", 429, times=2)
    done = launch(*SHORT, f"output_dir={tmp_path}", environment=server.environment())
    assert done.returncode == 0, done.stderr
    assert "W&B has not" not in done.stdout
    assert_same(server, tmp_path)


def test_more_runs_than_files_may_be_open(server: WandbServer, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))

    arguments = ["-m", "seed=range(40)", "max_pack=40", "latent=2", "arch.hidden=[4]", "steps=4", "evaluation=none"]
    done = subprocess.run(
        [sys.executable, "launch.py", *arguments, "sweep=grid", f"output_dir={tmp_path}"],
        cwd=ROOT, env=os.environ | server.environment(), capture_output=True, text=True, preexec_fn=limit, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(all_runs(tmp_path)) == 40
    assert sync(tmp_path, server).returncode == 0
    for folder in all_runs(tmp_path):
        run = server.run(folder.id)
        assert [numbers(row) for row in run.history] == [local_row(row) for row in folder.read_rows()]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can mount a small file system")
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_full_disk_for_wandbs_own_files(mode: str, server: WandbServer, tmp_path: Path, untracked: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        arguments = [*SHORT, f"output_dir={tmp_path / 'out'}", f"tracker.mode={mode}", f"tracker.dir={small}"]
        done = launch(*arguments, environment=server.environment())
        assert done.returncode == 0, done.stderr
        assert values(tmp_path / "out") == values(untracked)
        (line,) = [line for line in done.stdout.splitlines() if "W&B is missing data of 4 of 4 runs" in line]
        assert "W&B's own files cannot be written: No space left on device" in line
        assert sync(tmp_path / "out", server).returncode == 0
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert_same(server, tmp_path / "out")


def test_evaluating_later_adds_columns_there_too(server: WandbServer, tmp_path: Path) -> None:
    assert launch(*SHORT, f"output_dir={tmp_path}", environment=server.environment()).returncode == 0
    done = command(tmp_path, server, "evaluate", "grid", "evaluation=none", "evaluation.latent_space=true")
    assert done.returncode == 0, done.stderr
    assert_same(server, tmp_path)
    assert all("test/mi" in run.summary for run in server.runs.values())


def test_the_sweeps_dashboards(server: WandbServer, untracked: Path) -> None:
    pytest.importorskip("wandb_workspaces", reason="needs the extra dashboard")
    printed = command(untracked, server, "dashboard", "grid", "--json")
    assert printed.returncode == 0, printed.stderr
    specification = json.loads(printed.stdout)
    assert sync(untracked, server, "--project", "boards").returncode == 0
    saved = command(untracked, server, "dashboard", "grid")
    assert saved.returncode == 0, saved.stderr
    assert [line.split(": ")[0] for line in saved.stdout.splitlines()] == ["workspace", "report"]
    assert {view["displayName"] for view in server.views} == {dashboard["name"] for dashboard in specification.values()}
    compare = f"""
import pandas as pd, vae_sweeps
shown = vae_sweeps.results.from_wandb("somebody/boards", group="grid")
pd.testing.assert_frame_equal(shown, vae_sweeps.results("{untracked / "sweeps" / "grid"}"), check_exact=True)
"""
    subprocess.run([sys.executable, "-c", compare], env=os.environ | server.environment(), check=True)


def test_without_a_key_one_line_explains_how_to_log_in(tmp_path: Path) -> None:
    done = launch(*SHORT, f"output_dir={tmp_path}")
    (line,) = [line for line in done.stdout.splitlines() if "W&B" in line]
    assert (
        line == "W&B: off, there is no key (`wandb login`, or set WANDB_API_KEY; set tracker=none to hide this message)"
    )
    assert not list(tmp_path.rglob("wandb*"))
