"""What SLURM says of jobs: at most one squeue and one sacct call for each question. Imports no torch."""

import shutil
import subprocess
from collections.abc import Collection
from typing import NamedTuple

# Of a job that will still work, or does.
ALIVE = {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SUSPENDED"}


class Task(NamedTuple):
    """A job, or an element of an array, as SLURM sees it: PENDING, RUNNING, ...; `reason` is why it waits or ended."""

    state: str
    reason: str


def in_queue(tasks: Collection[str]) -> dict[str, Task]:
    """Those of `tasks` that wait or run. Raises ValueError where squeue does not answer."""
    if not tasks:
        return {}
    found = {}
    for line in _ask("squeue", "--noheader", "--array", "--me", "--format=%i|%T|%r").splitlines():
        task, state, reason = (part.strip() for part in line.split("|", 2))
        if task in tasks and state in ALIVE:
            found[task] = Task(state, "" if reason == "None" else reason)
    return found


def ended(tasks: Collection[str]) -> dict[str, Task]:
    """How those of `tasks` ended that are no more in the queue; nothing where there is no accounting."""
    if not tasks or shutil.which("sacct") is None:
        return {}
    jobs = ",".join(sorted({task.split("_")[0] for task in tasks}))
    try:
        lines = _ask("sacct", "-X", "--noheader", "--parsable2", f"--jobs={jobs}", "--format=JobID,State,ExitCode")
    except ValueError:
        return {}
    found = {}
    for line in lines.splitlines():
        task, state, code = line.split("|")
        if task in tasks:
            found[task] = Task(state.split()[0], f"exit code {code}" if code != "0:0" else "")
    return found


def cancel(tasks: Collection[str]) -> None:
    """Tell SLURM to end `tasks`."""
    if tasks:
        _ask("scancel", *sorted(tasks))


def max_array_size() -> int:
    """How many elements an array may have here."""
    for line in _ask("scontrol", "show", "config").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize":
            return max(1, int(value))
    return 1001  # SLURM's own default


def is_cancelled(job: str) -> bool:
    """Whether the running job was told to end for good."""
    try:
        state = _ask("squeue", "--noheader", f"--jobs={job}", "--format=%T").strip()
    except ValueError:
        return True  # SLURM knows of no such job any more
    return not state.startswith(("RUNNING", "PREEMPTED"))


def _ask(*command: str) -> str:
    """A client's output. Raises ValueError with its own words where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError as error:
        raise ValueError(f"{command[0]}: cannot be run on this machine ({error.strerror}); try a login node") from error
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{command[0]}: no answer within a minute; try again later") from error
    if done.returncode != 0:
        raise ValueError(f"{command[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout
