"""SLURM's view of jobs, with at most one squeue or sacct call per question. Does not import torch."""

import shutil
import subprocess
from collections.abc import Collection
from typing import NamedTuple

# States of a job that runs or will run.
ALIVE = {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SUSPENDED"}


class Task(NamedTuple):
    """The state (PENDING, RUNNING, ...) of a job or array element, and the reason why it waits or ended."""

    state: str
    reason: str


def in_queue(tasks: Collection[str]) -> dict[str, Task]:
    """Those of `tasks` that wait or run. Raises ValueError if squeue fails."""
    if not tasks:
        return {}
    queued = {}
    for line in _ask("squeue", "--noheader", "--array", "--me", "--format=%i|%T|%r").splitlines():
        task, state, reason = (part.strip() for part in line.split("|", 2))
        if task in tasks and state in ALIVE:
            queued[task] = Task(state, "" if reason == "None" else reason)
    return queued


def ended(tasks: Collection[str]) -> dict[str, Task]:
    """The final states of those of `tasks` that have left the queue; empty if SLURM keeps no accounting."""
    if not tasks or shutil.which("sacct") is None:
        return {}
    jobs = ",".join(sorted({task.split("_")[0] for task in tasks}))
    try:
        lines = _ask("sacct", "-X", "--noheader", "--parsable2", f"--jobs={jobs}", "--format=JobID,State,ExitCode")
    except ValueError:
        return {}
    states = {}
    for line in lines.splitlines():
        task, state, code = line.split("|")
        if task in tasks:
            states[task] = Task(state.split()[0], f"exit code {code}" if code != "0:0" else "")
    return states


def cancel(tasks: Collection[str]) -> None:
    """Cancel `tasks`."""
    if tasks:
        _ask("scancel", *sorted(tasks))


def max_array_size() -> int:
    """The largest number of elements that this site allows in an array."""
    for line in _ask("scontrol", "show", "config").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize":
            return max(1, int(value))
    return 1001  # SLURM's own default


def is_cancelled(job: str) -> bool:
    """Whether SLURM is ending this job for good; a preempted job is not cancelled."""
    try:
        state = _ask("squeue", "--noheader", f"--jobs={job}", "--format=%T").strip()
    except ValueError:
        return True  # SLURM no longer knows the job
    return not state.startswith(("RUNNING", "PREEMPTED"))


def _ask(*command: str) -> str:
    """Run a SLURM client and return its output. Raises ValueError with its error message if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError as error:
        raise ValueError(f"{command[0]}: cannot be run on this machine ({error.strerror}); try a login node") from error
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{command[0]}: no answer within a minute; try again later") from error
    if done.returncode != 0:
        raise ValueError(f"{command[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout
