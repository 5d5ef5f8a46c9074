"""What `on_end` calls when a sweep has ended: real shell commands, and addresses of a real server."""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ended_command, launch_here, make_options, make_point
from vae_sweeps.config.secrets import hide_in_override
from vae_sweeps.launch.on_end import announce
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import lease, yaml_files

SECRET = "T012/B34/hUsh7K3y"


class Server(ThreadingHTTPServer):
    """Answers with `code`, and keeps what it was sent as (path, content)."""

    code = 200

    def __init__(self) -> None:
        self.received: list[tuple[str, Any]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/{SECRET}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        data = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        self.server.received.append((self.path, json.loads(data)))
        self.send_response(self.server.code, f"says no to {SECRET}" if self.server.code >= 400 else None)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch) -> Any:
    """What is logged as a warning."""
    monkeypatch.setattr(logging.getLogger("vae_sweeps"), "propagate", True)

    def texts() -> list[str]:
        found = [record for record in caplog.records if record.levelno >= logging.WARNING]
        return list(dict.fromkeys(record.getMessage() for record in found))  # two handlers may capture each

    return texts


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    """A sweep that has ended: one point is done, and one has failed."""
    sweep = SweepFolder.under(tmp_path / "out", "grid")
    sweep.add(["run-0", "run-1"], ["seed"])
    done, failed = sweep.runs()
    for seed, run in enumerate((done, failed)):
        run.create(make_point(f"seed={seed}"), make_options(), [])
    end(done)
    failed.write_failure("ValueError: no")
    return sweep


def end(run: RunFolder, finished_at: str = "2031-05-06T12:00:00+0000") -> None:
    cost = {"time_s": 7200.0, "gpu_s": 7200.0, "device": "H100", "num_devices": 1}
    run.write_result({"status": "done", "step": 7, "finished_at": finished_at, "metrics": {}, **cost})


def text_of(sweep: SweepFolder) -> str:
    return f"grid has ended: 1 done, 1 failed; GPU hours: 2.0 used; report: {sweep.report}"


def test_a_command_gets_the_summary_on_its_input_and_in_variables(sweep: SweepFolder, tmp_path: Path) -> None:
    variables = tmp_path / "variables"
    command = f'cat > {tmp_path}/input; printf "%s|%s|%s" "$VAE_SWEEPS_SWEEP" "$VAE_SWEEPS_SUMMARY" "$0" > {variables}'
    announce(sweep, [command])
    assert json.loads((tmp_path / "input").read_text()) == {
        "text": text_of(sweep),
        "sweep": "grid",
        "counts": {"done": 1, "failed": 1},
        "report": str(sweep.report),
    }
    assert variables.read_text() == f"grid|{text_of(sweep)}|/bin/sh"


def test_other_users_do_not_see_the_command_among_the_processes(sweep: SweepFolder, tmp_path: Path) -> None:
    announce(sweep, [f"TOKEN=hUsh; tr '\\0' ' ' < /proc/$$/cmdline > {tmp_path}/arguments"])
    arguments = (tmp_path / "arguments").read_text()
    assert arguments.startswith("/bin/sh -c ")
    assert "hUsh" not in arguments


def test_an_address_gets_the_summary_as_json(sweep: SweepFolder, server: Server) -> None:
    announce(sweep, [server.address])
    ((path, content),) = server.received
    assert path == f"/services/{SECRET}"
    assert content["text"] == text_of(sweep)
    assert content["counts"] == {"done": 1, "failed": 1}


def test_a_hook_that_fails_is_a_warning_without_its_secrets_and_the_others_are_called(
    sweep: SweepFolder, server: Server, warnings, tmp_path: Path
) -> None:
    server.code = 404
    taken = "echo token=hUshT0ken: no such user >&2; exit 7; : hUshT0ken"
    nobody = f"http://127.0.0.1:9/{SECRET}"
    announce(sweep, [server.address, taken, nobody, f"touch {tmp_path}/called"])
    assert (tmp_path / "called").exists()
    assert warnings() == [
        "on_end: entry 1 (address) failed: the server answers 404 Not Found",
        "on_end: entry 2 (command) failed: exit code 7, *** no such user",
        "on_end: entry 3 (address) failed: no connection: Connection refused",
    ]


def test_a_command_that_does_not_end_is_killed_with_all_that_it_started(
    sweep: SweepFolder, warnings, tmp_path: Path
) -> None:
    announce(
        sweep, [f"sleep 600 & echo $! > {tmp_path}/pid; mkfifo {tmp_path}/pipe; cat {tmp_path}/pipe"], timeout_s=0.5
    )
    assert warnings() == ["on_end: entry 1 (command) failed: no end within 0.5 s"]
    assert subprocess.run(
        ["ps", "-o", "stat=", (tmp_path / "pid").read_text().strip()], capture_output=True
    ).stdout in (
        b"",
        b"Z\n",
    )


def test_a_command_may_leave_a_process_behind(sweep: SweepFolder, warnings, tmp_path: Path) -> None:
    announce(sweep, [f"sleep 600 & echo $! > {tmp_path}/pid"])
    subprocess.run(["kill", (tmp_path / "pid").read_text().strip()], check=True)
    assert warnings() == []


def test_several_jobs_that_end_at_the_same_moment_call_it_once(sweep: SweepFolder, tmp_path: Path) -> None:
    """Processes that all wait for a file, and then find that the sweep has ended."""
    go = tmp_path / "go"
    script = f"""
import pathlib, time
from vae_sweeps.launch.on_end import announce
from vae_sweeps.runs.sweep_folder import SweepFolder
print("ready", flush=True)
while not pathlib.Path({str(go)!r}).exists():
    time.sleep(0.001)
announce(SweepFolder(pathlib.Path({str(sweep.path)!r})), ["echo called >> {tmp_path}/calls"])
"""
    jobs = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(3)]
    for job in jobs:
        assert job.stdout is not None
        assert job.stdout.readline() == b"ready\n"
    go.touch()
    assert [job.wait() for job in jobs] == [0, 0, 0]
    assert (tmp_path / "calls").read_text() == "called\n"


def test_it_is_called_once_for_each_ending(sweep: SweepFolder, tmp_path: Path) -> None:
    calls = tmp_path / "calls"

    def num_calls() -> int:
        announce(sweep, [f"echo called >> {calls}"])
        return len(calls.read_text().splitlines())

    done, failed = sweep.runs()
    assert num_calls() == 1
    result = done.read_result()
    assert result is not None
    done.write_result(result | {"metrics": {"test/elbo": -1.0}})  # evaluated again
    assert num_calls() == 1
    failed.clear(keep_training=True)
    assert num_calls() == 1
    end(failed)
    assert num_calls() == 2
    assert len(sweep.endings()) == 1


def test_a_sweep_that_has_not_ended_calls_nothing(sweep: SweepFolder, tmp_path: Path) -> None:
    """A point without a result, or that another job still evaluates."""
    done, _ = sweep.runs()
    hooks = [f"echo called >> {tmp_path}/calls"]
    held = lease.take(done.path)
    assert held is not None
    announce(sweep, hooks)
    held.release()
    sweep.add(["run-2"], [])
    announce(sweep, hooks)
    assert not (tmp_path / "calls").exists()
    sweep.run("run-2").path.mkdir()
    end(sweep.run("run-2"))
    announce(sweep, hooks)
    assert (tmp_path / "calls").read_text() == "called\n"


SMALL = ["arch.hidden=[3]", "steps=5", "evaluation=none", "tracker=none"]


@pytest.mark.slow
def test_a_launch_calls_it_at_its_end_and_records_nothing_of_it(tmp_path: Path, server: Server, capsys) -> None:
    out = tmp_path / "out"
    hooks = f"on_end=['{server.address}','test {SECRET} = 1']"
    assert launch_here("-m", "beta=0,1", *SMALL, "sweep=grid", f"output_dir={out}", hooks) == 0
    said = capsys.readouterr()
    assert "on_end: entry 2 (command) failed: exit code 1" in said.out
    assert [content["counts"] for _, content in server.received] == [{"done": 2}]
    assert SECRET not in said.out + said.err
    written = {path for path in out.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()}
    assert {path.name for path in written} <= {"code.diff"}  # where this test itself has been changed
    assert [run.read_launch_options().on_end for run in all_runs(out)] == [[], []]
    status = ended_command(capsys, "status", "grid", "--output-dir", out)
    assert status.out.startswith("grid: 2 done\n  CPU core hours: ")


def test_a_command_without_a_sweep_says_that_nothing_is_called(tmp_path: Path, server: Server, capsys) -> None:
    assert launch_here(*SMALL, f"output_dir={tmp_path / 'out'}", f"on_end=['{server.address}']") == 0
    assert "on_end: not called, since this command has no sweep; add -m or sweep=NAME" in capsys.readouterr().out
    assert server.received == []


def test_a_run_folder_of_someone_else_names_nothing_to_call(sweep: SweepFolder) -> None:
    run = sweep.runs()[0]
    content = yaml_files.load(run.launch_options.read_text())
    content["options"]["on_end"] = ["touch owned"]
    run.launch_options.write_text(yaml_files.dump(content))
    assert run.read_launch_options() == make_options()


@pytest.mark.parametrize(
    "value", [f"[ftp://host/{SECRET}]", f"https://host/{SECRET}", f"['http://host:no/{SECRET}']", f"['',{SECRET}]"]
)
def test_a_mistake_is_one_line_that_does_not_show_the_value(refused, value: str) -> None:
    line = refused("-m", "beta=0,1", f"on_end={value}")
    assert line == "on_end=***: must be a list of shell commands and http(s) addresses"


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_an_override_is_hidden(prefix: str) -> None:
    assert hide_in_override(f"{prefix}on_end=[{SECRET}]") == f"{prefix}on_end=***"
