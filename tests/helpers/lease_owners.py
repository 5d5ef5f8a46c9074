"""Processes that take a folder's lease, in containers of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

OWNER = """
import sys
from pathlib import Path
from vae_sweeps.system import lease
folder = Path(sys.argv[1])
held = lease.take(folder)
print("held" if held else "refused", flush=True)
for line in sys.stdin:
    try:
        held.write(folder / "number", line)
        print("written", flush=True)
    except lease.LostLeaseError as error:
        print(error, flush=True)
"""

CONTAINER = ["unshare", "--pid", "--mount", "--uts", "--fork", "--mount-proc"]


class Process:
    """A process that takes a folder, and writes a line into it whenever it is told to."""

    def __init__(self, folder: Path, command: Sequence[str] = (), lease_s: float = 1.0) -> None:
        self.process = subprocess.Popen(
            [*command, sys.executable, "-c", OWNER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"VAE_SWEEPS_LEASE_S": str(lease_s), "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,
        )
        self.answer = self.read()

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def write(self, text: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        return self.read()

    def send(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def end(self) -> None:
        """Kill it, even if it is stopped."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGKILL)
        self.process.communicate()


def can_make_namespaces() -> bool:
    return subprocess.run([*CONTAINER, "true"], capture_output=True).returncode == 0


needs_namespaces = pytest.mark.skipif(not can_make_namespaces(), reason="this user cannot make namespaces")
