"""Ranks in processes of their own find each other by a file, and say who is absent."""

import socket
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import ROOT, wait_until
from vae_sweeps.system import rendezvous
from vae_sweeps.system.rendezvous import Rank

# Rank 0 of 2, in the folder of its first argument.
HOST = """
import sys
from datetime import timedelta
from pathlib import Path
from vae_sweeps.system.rendezvous import Rank, meet
store = meet(Rank(0, 2, file=Path(sys.argv[1])), timedelta(seconds=60))
store.set("greeting", "hello")
sys.stdin.read()  # the store ends with this process
"""


@pytest.mark.slow
def test_ranks_meet_on_a_port_of_the_kernel_through_a_private_file_that_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "rendezvous"
    command = [sys.executable, "-c", HOST, str(file)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as host:
        wait_until(file.exists, host)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        name, port = file.read_text().split()
        assert name == "127.0.0.1"
        assert not can_be_bound(int(port))
        store = rendezvous.meet(Rank(1, 2, file=file), timedelta(seconds=60))
        assert store.get("greeting") == b"hello"
        assert not list(tmp_path.iterdir())
        host.communicate(timeout=180)
    assert host.returncode == 0


def can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def test_rank_0_names_those_that_do_not_come_and_leaves_no_file(tmp_path: Path) -> None:
    line = r"^devices=3: of the ranks 0 to 2, 1, 2 did not reach rank 0 at 127\.0\.0\.1, port \d+, within 0\.2 s; see "
    with pytest.raises(RuntimeError, match=line):
        rendezvous.meet(Rank(0, 3, file=tmp_path / "rendezvous"), timedelta(seconds=0.2))
    assert not list(tmp_path.iterdir())


def test_a_rank_that_finds_no_file_says_so(tmp_path: Path) -> None:
    line = r"^devices=2: rank 1 found no 7_0\.rendezvous of rank 0 within 0\.2 s; see the log of rank 0 in "
    with pytest.raises(RuntimeError, match=line):
        rendezvous.meet(Rank(1, 2, file=tmp_path / "7_0.rendezvous"), timedelta(seconds=0.2))


def test_a_rank_that_cannot_reach_rank_0_says_where_it_looked(tmp_path: Path) -> None:
    (tmp_path / "rendezvous").write_text("no-such-host.invalid 4242\n")
    line = r"^devices=2: rank 1 on \S+ cannot reach rank 0 at no-such-host\.invalid, port 4242, within 0\.3 s; nodes "
    with pytest.raises(RuntimeError, match=line):
        rendezvous.meet(Rank(1, 2, file=tmp_path / "rendezvous"), timedelta(seconds=0.3))
