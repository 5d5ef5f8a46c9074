"""Claims: at most one process works on a run. The claim of a process that is gone can be taken over."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from vae_sweeps.runs.run_folder import RunFolder

# Processes on another host cannot be checked; their claims count as abandoned after this long without a heartbeat.
_SILENCE_S = 600.0


def _this_process() -> dict[str, Any]:
    job = os.environ.get("SLURM_JOB_ID")
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid()), "job": job}


def _began(pid: int) -> str | None:
    """When process `pid` started, in the kernel's ticks; distinguishes it from a later process with the same pid."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def _is_alive(pid: int, began: str | None) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists and belongs to another user
    return began is None or _began(pid) == began


def _holder(run: RunFolder) -> dict[str, Any] | None:
    """The claim of the living process that works on the run, or None."""
    try:
        claim = json.loads(run.claim.read_text())
        silence_s = time.time() - run.claim.stat().st_mtime
        if claim["host"] == socket.gethostname():
            return claim if _is_alive(claim["pid"], claim["began"]) else None
        return claim if silence_s < _SILENCE_S else None
    except (FileNotFoundError, ValueError, KeyError):
        return None


def is_held(run: RunFolder) -> bool:
    """Whether a living process (this one or another) works on the run."""
    return _holder(run) is not None


def take(run: RunFolder) -> bool:
    """Claim the run for this process; returns False if another living process holds it."""
    # The lock makes reading and writing the claim one atomic operation.
    with FileLock(run.claim_lock):
        holder, claim = _holder(run), _this_process()
        if holder is not None and not _is_own(holder, claim):
            return False
        unfinished = run.claim.with_name(".claim.tmp")
        unfinished.write_text(json.dumps(claim))
        os.replace(unfinished, run.claim)
    return True


def _is_own(holder: dict[str, Any], claim: dict[str, Any]) -> bool:
    """Whether the holder is this process, or an earlier process of the same SLURM job on a node that was lost.

    An earlier process on this host is still alive (only its SLURM daemon was killed), so it keeps the run.
    """
    if holder["host"] == claim["host"]:
        return holder["pid"] == claim["pid"]
    return claim["job"] is not None and holder["job"] == claim["job"]


def keep(run: RunFolder) -> None:
    """Heartbeat: record that this process is still working on the run."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(run.claim)


def release(run: RunFolder) -> None:
    """Give up the claim."""
    (run.claim).unlink(missing_ok=True)


@contextlib.contextmanager
def taken(runs: Iterable[RunFolder]) -> Iterator[list[RunFolder]]:
    """Claim those of `runs` that no other process works on, and release them at the end."""
    claimed: list[RunFolder] = []
    try:
        claimed.extend(run for run in runs if take(run))
        yield claimed
    finally:
        for run in claimed:
            release(run)
