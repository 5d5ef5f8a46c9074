"""How the ranks of a job find each other: rank 0 listens on a free port, and says in a file where.

The kernel chooses the port. A port that every rank could compute beforehand may be taken by another program.
"""

import os
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

from vae_sweeps.system import private

# Ranks start at the same time, but importing torch from a busy file system may take minutes.
TIMEOUT = timedelta(minutes=10)
_LONGEST_PAUSE_S = 2.0


@dataclass(frozen=True)
class Rank:
    """A process among those that train together: number `number` of `size`, and number `local` on its node.

    `file` is where rank 0 says how it is reached. All ranks see it, and no other group uses the same name.
    """

    number: int = 0
    size: int = 1
    local: int = 0
    num_nodes: int = 1
    file: Path = Path("rendezvous")

    @property
    def ranks_on_node(self) -> int:
        return self.size // self.num_nodes


def meet(rank: Rank, timeout: timedelta = TIMEOUT) -> TCPStore:
    """Wait for all ranks, and return the store that they share. The file is gone when rank 0 returns.

    Raises RuntimeError that says which ranks did not come, or that rank 0 cannot be reached.
    """
    return _host(rank, timeout) if rank.number == 0 else _visit(rank, timeout)


def _host(rank: Rank, timeout: timedelta) -> TCPStore:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timeout)
    name = "127.0.0.1" if rank.num_nodes == 1 else socket.gethostname()
    others = [str(number) for number in range(1, rank.size)]
    try:
        private.write(rank.file, f"{name} {store.port}\n")
        store.wait(others, timeout)
    except DistError as error:
        absent = ", ".join(other for other in others if not store.check([other]))
        raise RuntimeError(
            f"devices={rank.size}: of the ranks 0 to {rank.size - 1}, {absent} did not reach rank 0 at {name}, port "
            f"{store.port}, within {timeout.total_seconds():g} s; see their logs in {rank.file.parent}"
        ) from error
    finally:
        rank.file.unlink(missing_ok=True)
    return store


def _visit(rank: Rank, timeout: timedelta) -> TCPStore:
    name, port = _read(rank, timeout)
    try:
        store = TCPStore(name, port, is_master=False, timeout=timeout)
    except DistError as error:
        raise RuntimeError(
            f"devices={rank.size}: rank {rank.number} on {socket.gethostname()} cannot reach rank 0 at {name}, port "
            f"{port}, within {timeout.total_seconds():g} s; nodes of a job must reach each other by their host names"
        ) from error
    store.set(str(rank.number), "")
    return store


def _read(rank: Rank, timeout: timedelta) -> tuple[str, int]:
    """Wait for rank 0's file; returns its host and port."""
    end, pause_s = time.monotonic() + timeout.total_seconds(), 0.05
    while True:
        # NFS remembers for a while that a file does not exist, unless its folder is opened and turns out to be newer.
        os.close(os.open(rank.file.parent, os.O_RDONLY))
        try:
            name, port = rank.file.read_text().split()
            return name, int(port)
        except FileNotFoundError:
            pass
        if time.monotonic() > end:
            raise RuntimeError(
                f"devices={rank.size}: rank {rank.number} found no {rank.file.name} of rank 0 within "
                f"{timeout.total_seconds():g} s; see the log of rank 0 in {rank.file.parent}"
            )
        time.sleep(pause_s)
        pause_s = min(1.5 * pause_s, _LONGEST_PAUSE_S)
