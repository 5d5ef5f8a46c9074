"""What becomes of a job that SLURM stops: it goes back into the queue, or a successor continues its work.

Below, `job` is a `job.Job`; that module imports this one.
"""

import contextlib
import logging
import os
import secrets
import socket
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

from vae_sweeps.launch.job_request import REQUEUE_CODE
from vae_sweeps.runs import claims
from vae_sweeps.system import lease, slurm

log = logging.getLogger(__name__)

# SLURM may signal a job up to a minute earlier than `signal_delay_s` says.
_EARLY_S = 60

_BEGAN = time.monotonic()


@dataclass(frozen=True)
class Lives:
    """How often a job has reached its time limit, and how many jobs have worked on the same before it."""

    time_limits: int = 0
    predecessors: int = 0


def node() -> str:
    """The name of this node."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def beginning_of(job: Any) -> float:
    """The present time of the file system that holds the runs of the job, which begins now."""
    return lease.clock_of(job.sweep.path) if job.sweep else 0.0


def _has_progressed(job: Any, began: float) -> bool:
    """Whether one of the runs of the job has saved a checkpoint, or has ended, since it began."""
    for run in job.runs():
        for path in (run.checkpoint, run.result):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime > began:
                    return True
    return False


def fail(job: Any, reason: str) -> None:
    """Record that the runs of the job have failed, for a reason that has nothing to do with them."""
    with claims.taken(run for pack in job.packs for run in pack) as claimed:
        for run in claimed:
            if not run.has_ended():
                run.write_failure(f"{reason}\n")


def go_on(job: Any, began: float) -> None:
    """Put the job back into the queue. If it has been there too often, or the site refuses, submit a successor.

    A job that was cancelled ends. One that made no progress since it began (`beginning_of`) submits no successor.
    """
    if job.request is None or os.environ.get("SUBMITIT_EXECUTOR") != "slurm" or os.environ.get("SLURM_PROCID") != "0":
        return
    number, settings = os.environ["SLURM_JOB_ID"], job.request.settings
    if slurm.is_cancelled(number):
        return
    is_at_limit = _seconds_left(number, settings.timeout_min) <= settings.signal_delay_s + _EARLY_S
    now = replace(job.lives, time_limits=job.lives.time_limits + is_at_limit)
    if now.time_limits <= settings.max_num_timeout:
        _save(replace(job, lives=now))
        try:
            slurm.requeue(number)
        except slurm.NoClientError:
            log.info("in a container without scontrol; the job's script puts it into the queue again")
            sys.exit(REQUEUE_CODE)
        except ValueError as error:
            log.warning("not put into the queue again: %s", error)
        else:
            limits = f"{now.time_limits} of {settings.max_num_timeout}"
            log.info("put into the queue again; time limits reached: %s", limits)
            sys.exit(0)
    _succeed(job, number, began)


def _seconds_left(number: str, timeout_min: int) -> float:
    """The seconds until the time limit; by this process's clock, if squeue does not say."""
    left = slurm.seconds_left(number)
    return 60 * timeout_min - (time.monotonic() - _BEGAN) if left is None else left


def _succeed(job: Any, number: str, began: float) -> None:
    assert job.request is not None
    limit, predecessors = job.request.settings.max_num_successors, job.lives.predecessors
    if not _has_progressed(job, began):
        log.warning("this job made no progress, so it submits no successor; use a longer hydra.launcher.timeout_min")
        return
    if predecessors >= limit:
        log.warning("hydra.launcher.max_num_successors=%d is reached, so no job follows; use vae-sweeps retry", limit)
        return
    successor = replace(job, lives=Lives(predecessors=predecessors + 1))
    try:
        task = _submit(successor, number)
    except Exception as error:  # whatever sbatch says here, the points are saved, and `retry` goes on with them
        log.warning("no successor was submitted: %s; use vae-sweeps wait or retry", " ".join(str(error).split()))
        return
    log.info("job %s continues the work (successor %d of %d)", task, predecessors + 1, limit)


def _submit(job: Any, after: str) -> str:
    """Submit a job that starts when the SLURM job `after` has ended; returns its id."""
    from vae_sweeps.launch import sbatch  # submitit's executor, which few jobs need

    tasks, words = sbatch.submit(job.request.after(after), [job])
    names = [run.name for run in job.runs() if not run.has_ended()]
    if not tasks and not job.num_workers:
        job.sweep.log_unsubmitted([*job.sweep.submitted().unsubmitted, *names])  # `vae-sweeps wait` submits them later
    if not tasks:
        raise ValueError(f"sbatch: {words}")
    if job.num_workers:
        job.sweep.log_workers(tasks, names, {})
    else:
        job.sweep.log_submission({tasks[0]: names}, {})
    return tasks[0]


def _save(job: Any) -> None:
    """Replace the job that SLURM will start again, in the file that submitit loads it from."""
    from submitit import JobEnvironment
    from submitit.helpers import DelayedSubmission

    path = JobEnvironment().paths.submitted_pickle
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    DelayedSubmission(job).dump(aside)
    aside.chmod(0o600)
    aside.replace(path)
