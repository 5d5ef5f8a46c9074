"""Which process owns a lease, and whether it still exists."""

import functools
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path


def duration_s() -> float:
    """How long a lease lasts without a heartbeat: 180 s, or the environment variable VAE_SWEEPS_LEASE_S."""
    return float(os.environ.get("VAE_SWEEPS_LEASE_S", "180"))


@dataclass(frozen=True)
class Owner:
    """A process that holds a lease. `boot` and `pid_namespace` say where its `pid` means something.

    `began` is the time at which the process started, in the kernel's ticks after boot. It distinguishes the process
    from a later one with the same pid. `job` and `restarts` are SLURM's.
    """

    host: str
    boot: str
    pid_namespace: str
    pid: int
    began: str | None
    job: str | None
    restarts: int
    lease_s: float
    token: str


@functools.cache
def _this_machine(_pid: int) -> tuple[str, str, str]:
    """Host name, boot id and pid namespace of this process. The pid is an argument so that forks ask again."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux: the host name has to do
        boot, namespace = f"host {socket.gethostname()}", ""
    return socket.gethostname(), boot, namespace


def this_process() -> Owner:
    host, boot, namespace = _this_machine(os.getpid())
    return Owner(
        host=host,
        boot=boot,
        pid_namespace=namespace,
        pid=os.getpid(),
        began=_began(os.getpid()),
        job=os.environ.get("SLURM_JOB_ID"),
        restarts=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        lease_s=duration_s(),
        token=secrets.token_hex(8),
    )


def _began(pid: int) -> str | None:
    """When process `pid` started; "" if it has ended, None if that is not known."""
    try:
        # Without a /proc of its own, a pid namespace sees the numbers of the one around it.
        if os.readlink("/proc/self") != str(os.getpid()):
            return None
        state, *others = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return "" if state in "ZX" else others[18]


def exists(pid: int) -> bool:
    """Whether there is a process with this number in this pid namespace."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it belongs to another user
    return True


def has_ended(pid: int) -> bool:
    """Whether there is no such process in this pid namespace, or one that has ended and is not yet waited for."""
    return not exists(pid) or _began(pid) == ""


def runs_here(owner: Owner) -> bool:
    """Whether the owner, a process of this boot and pid namespace, still exists."""
    if not exists(owner.pid):
        return False
    began = _began(owner.pid)
    return owner.began is None or began is None or began == owner.began
