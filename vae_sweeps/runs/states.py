"""The states of a sweep's points: what runs, what waits and why, what failed. Fast, and does not import torch."""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vae_sweeps.runs import claims, costs
from vae_sweeps.runs.costs import Cost
from vae_sweeps.runs.known_results import KnownResults
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.submissions import Submissions
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import slurm

log = logging.getLogger(__name__)

STATES = ("done", "stopped", "diverged", "failed", "running", "queued", "interrupted", "preempted", "lost", "pending")
# States that change without another command.
_MOVING = {"running", "queued"}
_RUNNING = {"CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED"}  # of jobs
_FIRST_POLL_S, _LAST_POLL_S = 2.0, 30.0
_ROW_BYTES = 16_384  # more than a row with the KL of a thousand latents


@dataclass(frozen=True)
class PointState:
    """A point's state, its progress (0 to 1) if known, its job, why it waits or ended, and its cost so far."""

    run: str
    state: str
    progress: float | None = None
    task: str | None = None
    reason: str = ""
    cost: Cost = field(default_factory=Cost)


def status(run: RunFolder, result: Mapping[str, Any] | None) -> str:
    """done, stopped (by halving), diverged, running, failed, interrupted or pending.

    A run is interrupted if it has a checkpoint and nobody works on it. This is based on the folder alone; `of_sweeps`
    also asks SLURM, and calls a run preempted if it was interrupted in a job.
    """
    if result is not None:
        return str(result["status"])
    if claims.is_held(run):
        return "running"
    if run.failure.exists():
        return "failed"
    return "interrupted" if run.checkpoint.exists() else "pending"


def of_sweeps(
    sweeps: Sequence[SweepFolder], *, may_ask_slurm: bool = True, results: KnownResults | None = None
) -> list[list[PointState]]:
    """The states of each sweep's points; calls squeue once and sacct once, if any point has not ended.

    Unless `may_ask_slurm`, they are based on the folders alone. `results` are those that have been read already. Raises
    ValueError if squeue does not answer.
    """
    results = KnownResults() if results is None else results
    jobs = [sweep.submitted() if may_ask_slurm else Submissions({}, {}) for sweep in sweeps]
    runs = [sweep.runs() for sweep in sweeps]
    open_tasks = {
        task
        for sweep_jobs, sweep_runs in zip(jobs, runs, strict=True)
        for run in sweep_runs
        if results.of(run) is None
        for task in sweep_jobs.tasks_of(run.name)
    }
    queue = slurm.in_queue(open_tasks)
    ended = slurm.ended(open_tasks - set(queue))
    # Read after the queue, so that a run that ended in between has its result and does not count as lost.
    return [
        [_of_run(sweep, run, results.of(run), sweep_jobs, queue, ended) for run in sweep_runs]
        for sweep, sweep_jobs, sweep_runs in zip(sweeps, jobs, runs, strict=True)
    ]


def of_sweep(sweep: SweepFolder, results: KnownResults | None = None) -> list[PointState]:
    """The states of one sweep's points; see `of_sweeps`."""
    return of_sweeps([sweep], results=results)[0]


def _of_run(
    sweep: SweepFolder,
    run: RunFolder,
    result: Mapping[str, Any] | None,
    jobs: Submissions,
    queue: Mapping[str, slurm.Task],
    ended: Mapping[str, slurm.Task],
) -> PointState:
    tasks, own = jobs.tasks_of(run.name), jobs.task_of.get(run.name)
    waiting = [task for task in tasks if task in queue]
    if result is None and own in waiting and queue[own].state == "PENDING" and not run.rows.exists():
        return PointState(run.name, "queued", None, own, queue[own].reason)  # not begun: nothing else to look for
    state = status(run, result)
    if result is not None:
        reason = f"at step {result['step']}" if state in ("stopped", "diverged") else ""
        return PointState(run.name, state, 1.0 if state == "done" else None, own, reason, costs.of_result(result))
    row = newest_row(run)
    known = PointState(run.name, state, _progress(row), own, cost=costs.of_row(row))
    if state == "failed":
        return replace(known, reason=_last_line(run.read_failure() or ""))
    if own in waiting:
        is_running = queue[own].state == "RUNNING"
        return replace(known, state="running" if is_running else "queued", reason=queue[own].reason)
    if state == "running":
        return known
    if waiting:
        reason = next((queue[task].reason for task in waiting if queue[task].state != "RUNNING"), "")
        return replace(known, state="queued", task=None, reason=reason or "waits for a free worker")
    if not tasks:
        return replace(known, reason="waits for room in the queue" if run.name in jobs.unsubmitted else "")
    return _of_ended_job(sweep, replace(known, task=own or tasks[-1]), ended)


def _of_ended_job(sweep: SweepFolder, known: PointState, ended: Mapping[str, slurm.Task]) -> PointState:
    """The job ended without a result: it was stopped with a checkpoint, never began with this point, or vanished."""
    assert known.task is not None
    job = ended.get(known.task)
    reason = f"{job.state} {job.reason}".strip() if job else "its job is no longer in the queue"
    was_stopped = job is None or job.state in ("CANCELLED", "PREEMPTED", "TIMEOUT", "COMPLETED", "REQUEUED")
    if was_stopped and known.state == "interrupted":
        return replace(known, state="preempted", reason=reason)
    if was_stopped and known.state == "pending" and job is not None:
        return replace(known, reason=reason)
    last = sweep.last_log_line(known.task)
    return replace(known, state="lost", reason=f"{reason}: {last}" if last else reason)


def newest_row(run: RunFolder) -> dict[str, Any]:
    """The last row of the run's metrics.jsonl; empty if there is none."""
    with contextlib.suppress(OSError, ValueError, RecursionError), run.rows.open("rb") as file:
        file.seek(max(0, run.rows.stat().st_size - _ROW_BYTES))
        row = json.loads(file.read().decode(errors="ignore").rstrip("\n").rpartition("\n")[2])
        if isinstance(row, dict):
            return row
    return {}


def _progress(row: Mapping[str, Any]) -> float | None:
    """The fraction of the run's steps that the row has reached."""
    try:
        return min(1.0, float(row["step"]) / float(row["num_steps"]))
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def runs_in_queue(sweep: SweepFolder) -> set[str]:
    """Names of the sweep's runs whose jobs wait or run, and that have not ended."""
    jobs = sweep.submitted()
    queue = slurm.in_queue({*jobs.task_of.values(), *jobs.workers})
    names = {name for name, task in jobs.task_of.items() if task in queue}
    names.update(name for task, runs in jobs.workers.items() if task in queue for name in runs)
    return {name for name in names if not sweep.run(name).has_ended()}


def tasks_in_queue(sweep: SweepFolder) -> set[str]:
    """The sweep's jobs that wait or run."""
    return set(slurm.in_queue(sweep.submitted().runs_of))


def described(states: Sequence[PointState]) -> list[str]:
    """One line per point that is neither done, stopped by halving nor pending: its state, progress, job and reason."""
    lines = []
    for point in states:
        if point.state in ("done", "stopped") or (point.state == "pending" and not point.reason):
            continue
        job = f"  job {point.task}" if point.task and point.state in ("running", "queued", "lost") else ""
        progress = f"  {100 * point.progress:.0f} %" if point.progress is not None else ""
        reason = f"  {point.reason}" if point.reason else ""
        lines.append(f"  {point.state:<11}  {point.run}{progress}{job}{reason}")
    return lines


def counts(states: Sequence[PointState]) -> str:
    """The number of points in each state that occurs, such as `3 done, 1 failed`."""
    numbers = {state: sum(point.state == state for point in states) for state in STATES}
    return ", ".join(f"{n} {state}" for state, n in numbers.items() if n) or "no points"


def is_moving(states: Iterable[PointState]) -> bool:
    """Whether any point runs or waits in the queue."""
    return any(point.state in _MOVING for point in states)


def wait(sweep: SweepFolder, when_room: Callable[[SweepFolder], bool] | None = None) -> list[PointState]:
    """Wait until no point of the sweep runs or is queued, and log changes. Ctrl-C does not affect the jobs.

    Points are done before they are evaluated, so it also waits for jobs that still run, which write the report last.
    Asks SLURM after 2 s, and then less and less often, down to twice a minute; in between it looks at one run's folder
    at a time, so that the end of the last one is seen at once. As long as there are points for which the queue had no
    room, it calls `when_room`, which submits as many as there is room for. It returns False if this user cannot submit
    them, and then nothing waits for them.
    """
    logged, interval_s, results, is_over = "", _FIRST_POLL_S, KnownResults(), False
    while True:
        points = of_sweep(sweep, results)
        if counts(points) != logged:
            logged = counts(points)
            log.info("%s: %s", sweep.name, logged)
        is_left = when_room is not None and bool(sweep.submitted().unsubmitted) and when_room(sweep)
        if not is_left and not is_moving(points):
            if not _has_running_job(sweep):
                return points
            if not is_over:
                log.info("%s: waiting for the last evaluations", sweep.name)
                is_over, interval_s = True, _FIRST_POLL_S
        if moving := [sweep.run(point.run) for point in points if point.state in _MOVING]:
            _wait_for_end(moving, interval_s)
        else:
            time.sleep(interval_s)  # others' jobs fill the queue
        interval_s = min(_LAST_POLL_S, 1.5 * interval_s)


def _has_running_job(sweep: SweepFolder) -> bool:
    tasks = slurm.in_queue(sweep.submitted().runs_of)
    return any(task.state in _RUNNING for task in tasks.values())


def _wait_for_end(runs: list[RunFolder], timeout_s: float) -> None:
    """Wait until all `runs` have ended, or for `timeout_s`. Opens no more than one file a second that is not there."""
    end, left = time.monotonic() + timeout_s, list(runs)
    while time.monotonic() < end:
        while left and (left[-1].has_ended() or left[-1].failure.exists()):
            left.pop()
        if not left:
            return
        time.sleep(min(1.0, timeout_s))
