"""The states of a sweep's points: what runs, what waits and why, what failed. Fast, and does not import torch."""

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vae_sweeps.runs import claims
from vae_sweeps.runs.known_results import KnownResults
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import slurm

log = logging.getLogger(__name__)

STATES = ("done", "diverged", "failed", "running", "queued", "preempted", "lost", "pending")
# States that change without another command.
_MOVING = {"running", "queued"}
_POLL_S = 2.0


@dataclass(frozen=True)
class PointState:
    """A point's state, its progress (0 to 1) if known, its job, and the reason why it waits or ended."""

    run: str
    state: str
    progress: float | None = None
    task: str | None = None
    reason: str = ""


def status(run: RunFolder, result: Mapping[str, Any] | None) -> str:
    """done, diverged, running, failed, preempted (stopped with a checkpoint, or its process is gone) or pending.

    This is based on the folder alone; `of_sweeps` also asks SLURM.
    """
    if result is not None:
        return str(result["status"])
    if claims.is_held(run):
        return "running"
    if run.failure.exists():
        return "failed"
    return "preempted" if run.checkpoint.exists() else "pending"


def of_sweeps(
    sweeps: Sequence[SweepFolder], *, may_ask_slurm: bool = True, results: KnownResults | None = None
) -> list[list[PointState]]:
    """The states of each sweep's points; calls squeue once and sacct once, if any point has not ended.

    Unless `may_ask_slurm`, they are based on the folders alone. `results` are those that have been read already. Raises
    ValueError if squeue does not answer.
    """
    results = KnownResults() if results is None else results
    tasks = [sweep.tasks_of_runs() if may_ask_slurm else {} for sweep in sweeps]
    runs = [sweep.runs() for sweep in sweeps]
    open_tasks = {
        sweep_tasks[run.name]
        for sweep_tasks, sweep_runs in zip(tasks, runs, strict=True)
        for run in sweep_runs
        if run.name in sweep_tasks and results.of(run) is None
    }
    queue = slurm.in_queue(open_tasks)
    ended = slurm.ended(open_tasks - set(queue))
    # Read after the queue, so that a run that ended in between has its result and does not count as lost.
    return [
        [_of_run(run, results.of(run), sweep_tasks.get(run.name), queue, ended) for run in sweep_runs]
        for sweep_tasks, sweep_runs in zip(tasks, runs, strict=True)
    ]


def of_sweep(sweep: SweepFolder) -> list[PointState]:
    """The states of one sweep's points; see `of_sweeps`."""
    return of_sweeps([sweep])[0]


def _of_run(
    run: RunFolder,
    result: Mapping[str, Any] | None,
    task: str | None,
    queue: Mapping[str, slurm.Task],
    ended: Mapping[str, slurm.Task],
) -> PointState:
    state = status(run, result)
    if result is not None:
        reason = f"at step {result['step']}" if state == "diverged" else ""
        return PointState(run.name, state, 1.0 if state == "done" else None, task, reason)
    progress = _progress(run)
    if state == "failed":
        return PointState(run.name, state, progress, task, _last_line(run.read_failure() or ""))
    if task is not None and task in queue:
        is_running = queue[task].state == "RUNNING"
        return PointState(run.name, "running" if is_running else "queued", progress, task, queue[task].reason)
    if state == "running" or task is None:
        return PointState(run.name, state, progress, task)
    # The job ended without a result: it was stopped with a checkpoint, or it vanished.
    job = ended.get(task)
    reason = f"{job.state} {job.reason}".strip() if job else "its job is no longer in the queue"
    was_stopped = job is None or job.state in ("CANCELLED", "PREEMPTED", "TIMEOUT", "COMPLETED")
    return PointState(run.name, "preempted" if state == "preempted" and was_stopped else "lost", progress, task, reason)


def _progress(run: RunFolder) -> float | None:
    """The fraction of the run's steps that its newest row has reached."""
    try:
        with run.rows.open("rb") as file:
            file.seek(max(0, run.rows.stat().st_size - 4096))
            row = json.loads(file.read().decode(errors="ignore").rstrip("\n").rpartition("\n")[2])
        return float(row["step"]) / float(row["num_steps"])
    except (OSError, ValueError, KeyError):
        return None


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def runs_in_queue(sweep: SweepFolder) -> set[str]:
    """Names of the sweep's runs whose jobs wait or run, and that have not ended."""
    tasks = sweep.tasks_of_runs()
    queue = slurm.in_queue(set(tasks.values()))
    return {name for name, task in tasks.items() if task in queue and not sweep.run(name).has_ended()}


def tasks_in_queue(sweep: SweepFolder) -> set[str]:
    """The sweep's jobs that wait or run."""
    return set(slurm.in_queue(set(sweep.tasks_of_runs().values())))


def described(states: Sequence[PointState]) -> list[str]:
    """One line per point that is neither done nor pending: its state, progress, job and reason."""
    lines = []
    for point in states:
        if point.state in ("done", "pending"):
            continue
        job = f"  job {point.task}" if point.task and point.state in ("running", "queued", "lost") else ""
        progress = f"  {100 * point.progress:.0f} %" if point.progress is not None else ""
        reason = f"  {point.reason}" if point.reason else ""
        lines.append(f"  {point.state:<9}  {point.run}{progress}{job}{reason}")
    return lines


def counts(states: Sequence[PointState]) -> str:
    """The number of points in each state that occurs, such as `3 done, 1 failed`."""
    numbers = {state: sum(point.state == state for point in states) for state in STATES}
    return ", ".join(f"{n} {state}" for state, n in numbers.items() if n) or "no points"


def is_moving(states: Iterable[PointState]) -> bool:
    """Whether any point runs or waits in the queue."""
    return any(point.state in _MOVING for point in states)


def wait(sweep: SweepFolder, poll_s: float = _POLL_S) -> list[PointState]:
    """Wait until no point of the sweep runs or is queued, and log changes. Ctrl-C does not affect the jobs."""
    logged = ""
    while True:
        states = of_sweep(sweep)
        if counts(states) != logged:
            logged = counts(states)
            log.info("%s: %s", sweep.name, logged)
        if not is_moving(states):
            return states
        time.sleep(poll_s)
