"""What SLURM's clients say, and what it means: they may fail, and list arrays in several ways."""

import os
from pathlib import Path

import pytest

from vae_sweeps.system import slurm
from vae_sweeps.system.slurm import SlurmError, Task

BUSY = 'echo "slurm_load_jobs error: Socket timed out on send/recv operation" >&2; exit 1'
UNKNOWN = 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1'


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch) -> None:
    monkeypatch.setattr(slurm, "_PAUSES_S", (0, 0, 0))
    monkeypatch.setattr(slurm, "_LAST_PAUSES_S", (0, 0, 0))


@pytest.fixture
def client(tmp_path: Path, monkeypatch):
    """Install a program that answers like one of SLURM's clients."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def install(name: str, lines: str) -> Path:
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/{name}.calls\n{lines}\n')
        script.chmod(0o755)
        return tmp_path / f"{name}.calls"

    return install


def busy_twice(tmp_path: Path, answer: str) -> str:
    """Lines that fail twice, and then do what `answer` says."""
    counter = tmp_path / "count"
    return f"echo x >> {counter}; if [ $(wc -l < {counter}) -lt 3 ]; then {BUSY}; fi; {answer}"


def test_a_client_that_fails_is_asked_again(client, tmp_path) -> None:
    calls = client("squeue", busy_twice(tmp_path, 'echo "7_1|RUNNING|None"'))
    assert slurm.in_queue({"7_1", "7_2"}) == {"7_1": Task("RUNNING", "")}
    assert calls.read_text().count("\n") == 3


def test_a_client_that_keeps_failing_is_reported_in_its_own_words(client) -> None:
    client("squeue", BUSY)
    with pytest.raises(SlurmError, match="squeue: slurm_load_jobs error: Socket timed out"):
        slurm.in_queue({"7"})


def test_jobs_that_slurm_has_forgotten_are_not_in_the_queue(client) -> None:
    calls = client("squeue", UNKNOWN)
    assert slurm.in_queue({"7_0", "7_1"}) == {}
    assert calls.read_text().count("\n") == 1  # asked again, it would say the same


def test_the_jobs_of_others_are_asked_for_by_number(client) -> None:
    calls = client("squeue", 'echo "7_0|PENDING|Priority"')
    assert slurm.in_queue({"7_0", "8"}) == {"7_0": Task("PENDING", "Priority")}
    assert "--jobs=7,8" in calls.read_text()
    assert "--me" not in calls.read_text()
    slurm.in_queue({str(number) for number in range(1000)})
    assert "--jobs" not in calls.read_text().splitlines()[-1]  # a command line has a limit


@pytest.mark.parametrize(
    ("lines", "is_cancelled"),
    [
        ("echo RUNNING", False),
        ("echo PREEMPTED", False),
        ("echo COMPLETING", True),
        ("echo CANCELLED", True),
        (UNKNOWN, True),
        (BUSY, False),
        ("", False),
    ],
)
def test_only_an_answer_means_that_a_job_is_cancelled(client, lines: str, is_cancelled: bool) -> None:
    client("squeue", lines)
    assert slurm.is_cancelled("7") is is_cancelled


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [("0:07", 7), ("59:58", 3598), ("2:00:00", 7200), ("1-02:03:04", 93784), ("UNLIMITED", float("inf")), ("", None)],
)
def test_the_time_that_is_left(client, answer: str, seconds: float | None) -> None:
    client("squeue", f"echo '{answer}'")
    assert slurm.seconds_left("7") == seconds


def test_an_array_that_was_cancelled_while_it_waited_is_one_line_of_sacct(client) -> None:
    client(
        "sacct",
        'echo "10_3|COMPLETED|0:0"; echo "10|CANCELLED by 0|0:0"; echo "11_[0-1,3%2]|CANCELLED|0:0"; '
        'echo "12_4|FAILED|1:0"',
    )
    gone = Task("CANCELLED", "")
    assert slurm.ended({"10_0", "10_3", "10_7", "11_0", "11_1", "11_2", "11_3", "12_4"}) == {
        "10_0": gone,
        "10_3": Task("COMPLETED", ""),  # the line of one task says more than that of its job
        "10_7": gone,
        "11_0": gone,
        "11_1": gone,
        "11_3": gone,
        "12_4": Task("FAILED", "exit code 1:0"),
    }


def test_a_requeue_that_the_site_refuses_is_not_asked_for_again(client) -> None:
    calls = client("scontrol", 'echo "Requested operation is presently disabled for job 7" >&2; exit 1')
    with pytest.raises(SlurmError, match="presently disabled"):
        slurm.requeue("7")
    assert calls.read_text().count("\n") == 1


def test_a_machine_without_clients_is_told_from_clients_that_fail(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(slurm.NoClientError):
        slurm.requeue("7")
