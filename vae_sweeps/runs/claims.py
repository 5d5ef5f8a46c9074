"""Claims: at most one process works on a run. A claim whose process is gone is recognised and taken over."""

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

# On another host a process cannot be looked up; its claim counts as left behind after this long without a heartbeat.
_SILENCE_S = 600.0


def _this_process() -> dict[str, Any]:
    job = os.environ.get("SLURM_JOB_ID")
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid()), "job": job}


def _began(pid: int) -> str | None:
    """When process `pid` started, in the kernel's own ticks: tells it from a later one with the same number."""
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
        pass  # it exists and is another user's
    return began is None or _began(pid) == began


def _holder(run: RunFolder) -> dict[str, Any] | None:
    """Who works on the run, or None if nobody living does."""
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
    """Claim the run for this process; False if another living one has it."""
    # The lock makes "look, then write" one step among all who want this run.
    with FileLock(run.claim_lock):
        holder, own = _holder(run), _this_process()
        if holder is not None and not _is_own(holder, own):
            return False
        aside = run.claim.with_name(".claim.tmp")
        aside.write_text(json.dumps(own))
        os.replace(aside, run.claim)
    return True


def _is_own(holder: dict[str, Any], own: dict[str, Any]) -> bool:
    """Whether the claim is this process's, or an earlier life's of its job on a node that was lost.

    On this host such a life would be alive (its daemon was killed, and it works on): it keeps the run.
    """
    if holder["host"] == own["host"]:
        return holder["pid"] == own["pid"]
    return own["job"] is not None and holder["job"] == own["job"]


def keep(run: RunFolder) -> None:
    """Heartbeat: say that this process is still at work."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(run.claim)


def release(run: RunFolder) -> None:
    """Give the claim up."""
    (run.claim).unlink(missing_ok=True)


@contextlib.contextmanager
def taken(runs: Iterable[RunFolder]) -> Iterator[list[RunFolder]]:
    """Claim those of `runs` that nobody else works on, and release them in the end."""
    won: list[RunFolder] = []
    try:
        won.extend(run for run in runs if take(run))
        yield won
    finally:
        for run in won:
            release(run)
