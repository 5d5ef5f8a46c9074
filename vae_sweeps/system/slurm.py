"""SLURM's view of jobs, with at most one squeue or sacct call per question. Does not import torch.

Clients fail now and then, most often when the controller has much to do. What they say is therefore taken for an answer
only if it can be one: every other failure is tried again, with growing pauses.
"""

import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

# States of a job that runs or will run.
ALIVE = {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SUSPENDED"}

# Seconds between tries of a client that fails: about a minute in all.
_PAUSES_S = (1, 2, 4, 8, 15, 30)

# A job that is about to be ended has less time.
_LAST_PAUSES_S = (1, 2, 4, 8)

# What clients say when they did not reach the controller or the accounting, or when it was too busy to answer.
_NO_ANSWER = re.compile(
    r"timed? ?out|unable to contact|unable to connect|connection|communication|temporarily|zero bytes|standby"
    r"|try again|slurm_persist_conn|not responding|too busy|no answer within",
    re.IGNORECASE,
)
# Answers to a question about jobs; asked again, a client would say the same.
_DEFINITE = re.compile(
    r"invalid|unrecognized|denied|not permitted|unknown option|cannot be run|disabled|no such|configuration source",
    re.IGNORECASE,
)
_UNKNOWN_JOB = re.compile(r"invalid job id", re.IGNORECASE)

# squeue is asked about at most so many jobs by their numbers, since a command line has a limit.
_MOST_NAMED = 500

T = TypeVar("T")

log = logging.getLogger(__name__)


class SlurmError(ValueError):
    """A client of SLURM failed, in its own words."""


class NoClientError(SlurmError):
    """SLURM's clients are not installed here."""


class Task(NamedTuple):
    """The state (PENDING, RUNNING, ...) of a job or array element, and the reason why it waits or ended."""

    state: str
    reason: str


def in_queue(tasks: Collection[str]) -> dict[str, Task]:
    """Those of `tasks` that wait or run, whoever submitted them. Raises ValueError if squeue keeps failing."""
    if not tasks:
        return {}
    jobs = sorted({job_of(task) for task in tasks})
    named = [f"--jobs={','.join(jobs)}"] if len(jobs) <= _MOST_NAMED else []
    try:
        lines = _ask("squeue", "--noheader", "--array", *named, "--format=%i|%T|%r").splitlines()
    except SlurmError as error:
        if _UNKNOWN_JOB.search(str(error)):
            return {}  # SLURM has forgotten all of them
        raise
    queued = {}
    for line in lines:
        task, state, reason = (part.strip() for part in line.split("|", 2))
        if task in tasks and state in ALIVE:
            queued[task] = Task(state, "" if reason == "None" else reason)
    return queued


def ended(tasks: Collection[str]) -> dict[str, Task]:
    """The final states of those of `tasks` that have left the queue; empty if SLURM keeps no accounting."""
    if not tasks or shutil.which("sacct") is None:
        return {}
    jobs = ",".join(sorted({job_of(task) for task in tasks}))
    try:
        lines = _ask("sacct", "-X", "--noheader", "--parsable2", f"--jobs={jobs}", "--format=JobID,State,ExitCode")
    except ValueError:
        return {}
    exact, of_many = dict[str, Task](), dict[str, Task]()
    for line in lines.splitlines():
        listed, state, code = line.split("|")
        final = Task(state.split()[0], f"exit code {code}" if code != "0:0" else "")
        (exact if listed in tasks else of_many).update(dict.fromkeys(_tasks_of(listed, tasks), final))
    return of_many | exact


def job_of(task: str) -> str:
    """The number of a task's job, which is that of the whole array for an element of one."""
    return task.split("_")[0]


def _tasks_of(listed: str, tasks: Collection[str]) -> Iterator[str]:
    """The tasks that a line of sacct is about.

    An array that is cancelled while it waits is one line, `10_[0-2,5%2]`; its job number alone, `10`, in some versions.
    """
    job, _, elements = listed.partition("_")
    if listed in tasks:
        yield listed
    elif not elements:
        yield from (task for task in tasks if job_of(task) == job)
    elif match := re.fullmatch(r"\[([\d,-]+)(?:%\d+)?\]", elements):
        for part in match[1].split(","):
            first, _, last = part.partition("-")
            named = (f"{job}_{i}" for i in range(int(first), int(last or first) + 1))
            yield from (task for task in named if task in tasks)


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


def this_task() -> str | None:
    """The job or array element that submitit runs in this process, as squeue names it; None outside of SLURM."""
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return None
    array, element = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{element}" if array and element else os.environ.get("SLURM_JOB_ID")


def is_cancelled(job: str) -> bool:
    """Whether SLURM is ending this job for good; not if it is preempted, or if squeue keeps failing."""
    try:
        state = _ask("squeue", "--noheader", f"--jobs={job}", "--format=%T", pauses=_LAST_PAUSES_S).strip()
    except SlurmError as error:
        return bool(_UNKNOWN_JOB.search(str(error)))
    return bool(state) and not state.startswith(("RUNNING", "PREEMPTED"))


def seconds_left(job: str) -> float | None:
    """The seconds until the time limit of a running job, infinity if it has none; None if squeue cannot say."""
    try:
        left = _ask("squeue", "--noheader", f"--jobs={job}", "--format=%L", pauses=_LAST_PAUSES_S).strip()
    except SlurmError:
        return None
    if left == "UNLIMITED":
        return float("inf")
    match = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", left)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(number or 0) for number in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def refusal(script: Path) -> str:
    """What sbatch says against the job of this script; "" if it would accept it."""
    try:
        patiently(lambda: _run("sbatch", "--test-only", str(script)))
    except SlurmError as error:
        return str(error)
    return ""


def requeue(job: str) -> None:
    """Put a running job back into the queue, which ends this process. Raises ValueError if SLURM refuses to."""
    _ask("scontrol", "requeue", job, pauses=_LAST_PAUSES_S)


def patiently(action: Callable[[], T]) -> T:
    """What `action` returns; if it raises an error because SLURM did not answer, it is tried again after pauses.

    Only for actions that may happen twice: a request that timed out may have been carried out.
    """
    for pause_s in _PAUSES_S:
        try:
            return action()
        except Exception as error:
            if not _NO_ANSWER.search(str(error)):
                raise
            _pause(error, pause_s)
    return action()


def _ask(*command: str, pauses: Collection[float] | None = None) -> str:
    """Run a SLURM client and return its output. Raises SlurmError with its words if it fails, however often tried."""
    for pause_s in _PAUSES_S if pauses is None else pauses:
        try:
            return _run(*command)
        except SlurmError as error:
            if _DEFINITE.search(str(error)):
                raise
            _pause(error, pause_s)
    return _run(*command)


def _pause(error: Exception, seconds: float) -> None:
    log.warning("%s; trying again in %g s", " ".join(str(error).split()), seconds)
    time.sleep(seconds)


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError as error:
        message = f"{command[0]}: cannot be run on this machine ({error.strerror}); try a login node"
        raise NoClientError(message) from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{command[0]}: no answer within a minute; try again later") from error
    if done.returncode != 0:
        raise SlurmError(f"{command[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout
