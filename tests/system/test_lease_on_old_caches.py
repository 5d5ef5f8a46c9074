"""Leases on a file system whose clients see old names, sizes and times, as those of NFS do.

Two mounts of one folder by bindfs remember for three seconds what they have looked up, also that a name is missing.
What they have not looked up they see at once, so changes appear in another order than they were made in.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.lease_owners import CONTAINER, Process, needs_namespaces

pytestmark = [needs_namespaces, pytest.mark.slow]
REMEMBERS_S = 3

# Takes the folder several times. Only one process at a time can create the file `inside`, which is on a local disk.
WORKER = """
import os, sys, time
from pathlib import Path
from vae_sweeps.system import lease
folder, inside, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
num_held = 0
while num_held < times:
    held = lease.take(folder)
    if held is None:
        time.sleep(0.01)
        continue
    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
    held.write(folder / held.owner.token, "x")
    os.unlink(inside)
    held.release()
    num_held += 1
"""


@pytest.fixture
def mounts(tmp_path) -> Iterator[list[Path]]:
    """Two mounts of one folder, which remember what they have looked up."""
    folders = [tmp_path / name for name in ("one", "two")]
    options = ",".join(f"{what}_timeout={REMEMBERS_S}" for what in ("attr", "entry", "negative"))
    (tmp_path / "disk").mkdir()
    try:
        for folder in folders:
            folder.mkdir()
            try:
                subprocess.run(["bindfs", "-o", options, tmp_path / "disk", folder], check=True, capture_output=True)
            except (FileNotFoundError, subprocess.CalledProcessError) as error:
                pytest.skip(f"bindfs cannot mount a folder: {error}")
        yield folders
    finally:
        for folder in folders:
            subprocess.run(["umount", "--lazy", folder], capture_output=True)


def test_the_mounts_see_what_was(mounts) -> None:
    """Otherwise the tests below would show nothing."""
    one, two = mounts
    assert not (two / "new").exists()
    (one / "new").mkdir()
    assert not (two / "new").exists()
    assert os.listdir(two) == ["new"]


def test_a_folder_has_one_owner_at_a_time(mounts, tmp_path) -> None:
    command = [*CONTAINER, sys.executable, "-c", WORKER]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    workers = [
        subprocess.Popen([*command, folder, tmp_path / "inside", "10"], stderr=subprocess.PIPE, env=environment)
        for folder in mounts * 3
    ]
    assert [worker.communicate()[1].decode() for worker in workers] == [""] * 6
    written = [path.name for path in (tmp_path / "disk").iterdir()]
    assert [name for name in written if name.startswith(".")] == []
    assert len(written) == 60


def test_an_owner_that_was_stopped_for_longer_than_its_lease_writes_nothing(mounts, tmp_path) -> None:
    first = Process(mounts[0], CONTAINER, lease_s=2 * REMEMBERS_S)
    second = None
    try:
        assert first.write("old") == "written"
        first.send(signal.SIGSTOP)
        while second is None or second.answer == "refused":
            second = Process(mounts[1], CONTAINER, lease_s=2 * REMEMBERS_S)
        assert second.write("new") == "written"
        first.send(signal.SIGCONT)
        assert "taken over by another process" in first.write("old")
        assert (tmp_path / "disk" / "number").read_text() == "new\n"
        assert second.write("newer") == "written"
    finally:
        for process in filter(None, (first, second)):
            process.end()
