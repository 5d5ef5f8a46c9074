"""At most one process works in a folder, and one that has lost it can write nothing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.helpers.lease_owners import CONTAINER, Process, needs_namespaces
from vae_sweeps.system import heartbeats, lease
from vae_sweeps.system.lease import Lease, LostLeaseError
from vae_sweeps.system.lease_owner import this_process

ELSEWHERE = {"boot": "another boot", "host": "elsewhere"}


def claim_of(folder: Path, silence_s: float = 0.0, **changes: object) -> Path:
    """A lease that a process made of which nothing is known here, and whose last heartbeat was `silence_s` ago."""
    path = folder / ".claim-1"
    owner = replace(this_process(), **{**ELSEWHERE, **changes})  # type: ignore[arg-type]
    (path / owner.token).mkdir(parents=True)
    (path / "owner.json").write_text(json.dumps(asdict(owner)))
    beat = (path / "owner.json").stat().st_mtime - silence_s
    os.utime(path / "owner.json", (beat, beat))
    return path


def taken(folder: Path) -> Lease:
    held = lease.take(folder)
    assert held is not None
    return held


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_folder_is_held_until_it_is_released_and_then_empty(tmp_path) -> None:
    held = taken(tmp_path)
    assert lease.is_held(tmp_path)
    assert lease.take(tmp_path) is None
    held.write(tmp_path / "number", "1")
    held.release()
    assert not lease.is_held(tmp_path)
    assert files_in(tmp_path) == ["number"]
    taken(tmp_path).release()


def test_leases_of_several_names_are_independent(tmp_path) -> None:
    first, second = taken(tmp_path), lease.take(tmp_path, ".other")
    assert second is not None
    first.release()
    assert lease.is_held(tmp_path, ".other")
    second.release()


def test_of_many_threads_that_take_a_folder_one_gets_it(tmp_path) -> None:
    for i in range(20):
        folder = tmp_path / str(i)
        folder.mkdir()
        with ThreadPoolExecutor(8) as pool:
            held = [one for one in pool.map(lambda _, folder=folder: lease.take(folder), range(8)) if one is not None]
        assert len(held) == 1
        assert held[0].is_held()
        held[0].release()
        assert files_in(folder) == []


@pytest.mark.parametrize(("silence_s", "is_held"), [(0, True), (100, True), (400, False), (-400, False)])
def test_silence_decides_about_a_process_that_cannot_be_looked_up(silence_s, is_held, tmp_path) -> None:
    claim_of(tmp_path, silence_s)
    assert lease.is_held(tmp_path) == is_held
    held = lease.take(tmp_path)
    assert (held is None) == is_held
    if held is not None:
        held.release()
        assert files_in(tmp_path) == []


def test_a_process_of_this_machine_that_is_gone_has_lost_its_folder_at_once(tmp_path) -> None:
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    here = this_process()
    claim_of(tmp_path, boot=here.boot, pid=int(done.stdout), began="1")
    assert not lease.is_held(tmp_path)
    taken(tmp_path).release()


def test_a_pid_that_another_process_has_by_now_does_not_hold_a_folder(tmp_path) -> None:
    here = this_process()
    claim_of(tmp_path, boot=here.boot, began="1")  # our own pid, but of a process that began earlier
    assert not lease.is_held(tmp_path)


def test_the_same_pid_in_another_namespace_holds_its_folder(tmp_path) -> None:
    claim_of(tmp_path, boot=this_process().boot, pid_namespace="pid:[1]", began="1")
    assert lease.take(tmp_path) is None


def test_a_requeued_job_takes_over_from_its_earlier_start_on_a_lost_node(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    for job in ("78", "77"):
        (tmp_path / job).mkdir()
        claim_of(tmp_path / job, job=job, restarts=0)
    assert lease.take(tmp_path / "78") is None
    taken(tmp_path / "77").release()


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe", b"[1]", b'{"pid": "x"}'])
def test_a_damaged_owner_counts_as_one_that_cannot_be_looked_up(damage, tmp_path) -> None:
    path = claim_of(tmp_path) / "owner.json"
    path.write_bytes(damage)
    assert lease.is_held(tmp_path)
    os.utime(path, (1, 1))
    assert not lease.is_held(tmp_path)
    taken(tmp_path).release()


def test_a_lease_without_an_owner_counts_as_one_that_cannot_be_looked_up(tmp_path) -> None:
    path = claim_of(tmp_path)
    (path / "owner.json").unlink()
    assert lease.take(tmp_path) is None
    os.utime(path, (1, 1))
    taken(tmp_path).release()
    assert files_in(tmp_path) == []


def test_whoever_has_lost_a_folder_cannot_write_and_does_not_release_the_other(tmp_path) -> None:
    first = taken(tmp_path)
    prepared = first.private / "aside"
    prepared.write_text("old")
    silent(first)
    second = taken_over(tmp_path)
    second.write(tmp_path / "number", "new")
    # The first has not noticed yet, as if it had been stopped between its check and the move.
    assert first.is_held()
    with pytest.raises(LostLeaseError, match="taken over by another process"):
        first.move(prepared, tmp_path / "number")
    with pytest.raises(LostLeaseError):
        first.write(tmp_path / "number", "old")
    first.release()
    assert (tmp_path / "number").read_text() == "new"
    assert second.is_held()
    second.release()
    assert files_in(tmp_path) == ["number"]


def test_a_lease_that_nobody_took_over_is_renewed_after_a_long_silence(tmp_path) -> None:
    held = taken(tmp_path)
    silent(held)
    held.beat()
    held.write(tmp_path / "number", "1")
    assert lease.take(tmp_path) is None
    held.release()


def silent(held: Lease) -> None:
    """Make the lease look as if its owner, which cannot be looked up, had been silent for an hour."""
    owner = held.path / "owner.json"
    owner.write_text(json.dumps(asdict(held.owner) | ELSEWHERE))
    beat = owner.stat().st_mtime - 3600
    os.utime(owner, (beat, beat))


def taken_over(folder: Path) -> Lease:
    held = taken(folder)
    assert held.path.name == ".claim-2"
    return held


def test_a_kill_while_a_lease_is_taken_leaves_nothing_for_long(tmp_path) -> None:
    left = tmp_path / ".claim-0123.new"
    left.mkdir()
    os.utime(left, (1, 1))
    taken(tmp_path).release()
    assert files_in(tmp_path) == []


# Takes and releases a lease, and dies before its n-th operation on files.
KILLED = """
import os, sys
from pathlib import Path

from vae_sweeps.system import lease

folder, left = sys.argv[1], int(sys.argv[2])

def count(event, _):
    global left
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        left -= 1
        if left == 0:
            os._exit(9)

sys.addaudithook(count)
lease.take(Path(folder)).release()
"""


def test_a_kill_at_any_moment_leaves_at_most_an_empty_folder(tmp_path) -> None:
    """It is left between two calls of the system, and stays for the duration of a lease, as nobody knows its owner."""
    codes = []
    while 0 not in codes:
        folder = tmp_path / str(len(codes))
        folder.mkdir()
        command = [sys.executable, "-c", KILLED, str(folder), str(len(codes) + 1)]
        codes.append(subprocess.run(command, check=False).returncode)
        taken(folder).release()
        left = files_in(folder)
        assert len(left) <= 1, (len(codes), left)
        assert all(name.endswith(".new") and not files_in(folder / name) for name in left), (len(codes), left)
    assert len(codes) > 8
    assert set(codes) == {0, 9}


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def run(*command: str, lease_s: float = 1.0) -> Process:
        started.append(Process(tmp_path, command, lease_s))
        return started[-1]

    yield run
    for process in started:
        process.end()


@needs_namespaces
def test_two_containers_of_one_host_name_do_not_both_work(start) -> None:
    """Both processes have pid 1 in their own namespaces, and neither can look the other up."""
    first = start(*CONTAINER, lease_s=60)
    assert first.answer == "held"
    assert start(*CONTAINER, lease_s=60).answer == "refused"
    assert first.write("1") == "written"


@needs_namespaces
def test_a_process_that_was_stopped_for_longer_than_its_lease_writes_nothing(start, tmp_path) -> None:
    first = start(*CONTAINER)
    assert first.write("old") == "written"
    first.send(signal.SIGSTOP)
    second = start(*CONTAINER)
    while second.answer == "refused":  # until the lease of the first has ended
        second = start(*CONTAINER)
    assert second.write("new") == "written"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "owner.json"}
    first.send(signal.SIGCONT)
    assert "taken over by another process" in first.write("old")
    assert "taken over by another process" in first.write("old")
    assert (tmp_path / "number").read_text() == "new\n"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "owner.json"} == before
    assert second.write("newer") == "written"


def test_a_heartbeat_is_given_every_half_minute_and_several_may_fail() -> None:
    assert heartbeats.interval_s(180.0) >= 30
    assert 4 * heartbeats.interval_s(180.0) < 180


def test_a_lease_that_was_just_taken_is_not_beaten_again_at_once(tmp_path, monkeypatch) -> None:
    """Packs take many leases: each is written once, and then not before its time."""
    written: list[str] = []
    monkeypatch.setattr(os, "utime", lambda path: written.append(str(path)))
    held = [taken(folder) for folder in map(tmp_path.joinpath, "abc") if folder.mkdir() is None]
    for one in held:
        one.release()
    assert written == []
