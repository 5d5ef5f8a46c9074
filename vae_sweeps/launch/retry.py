"""Resume the points of a sweep that failed, were stopped, are lost or were never begun, or any run."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from vae_sweeps.config import trust
from vae_sweeps.runs import claims, states
from vae_sweeps.runs.finding import find_run
from vae_sweeps.runs.states import PointState
from vae_sweeps.runs.sweep_folder import SweepFolder, get_sweep

log = logging.getLogger(__name__)

# Without 'diverged', since a diverged point would diverge again.
_RETRIED = ("failed", "interrupted", "preempted", "lost", "pending")


def retry_sweep(where: str, output_dir: Path, *, is_trusted: bool = False) -> bool:
    """Resume the points that failed, were interrupted, are lost or were never begun, as they were last launched.

    If `is_trusted`, whatever the runs' configs name is called; see `config.trust`. Returns False if points on this
    machine did not finish. Raises ValueError if the sweep does not exist, if the user has not launched it and it names
    anything but vae-sweeps' own functions, or if SLURM rejects the jobs.
    """
    sweep = get_sweep(where, output_dir)
    to_retry = [point for point in states.of_sweep(sweep) if point.state in _RETRIED]
    if not to_retry:
        log.info("%s: nothing to retry: %s", sweep.name, states.counts(states.of_sweep(sweep)))
        return True
    from vae_sweeps.launch import again, cluster, local, on_end, planning  # torch, which takes seconds

    launch = again.launch_again(sweep, [point.run for point in to_retry], is_trusted=is_trusted)
    launch = replace(launch, largest_pack=_half_of_those_without_memory(sweep, to_retry))
    runs = [sweep.run(point.run) for point in to_retry]
    with trust.allowing(launch.allowed):
        planned = planning.make_plan(launch)
        with claims.taken(planned.runs.folders) as claimed:
            for run in claimed:
                run.clear(keep_training=True)
        log.info("%s: retrying %s", sweep.name, states.counts(to_retry))
        if launch.cluster:
            cluster.on_cluster(planned, launch)
            return True
        local.run_here(planned, launch)
        on_end.conclude(sweep, launch.options.on_end)
    return all(run.has_ended() for run in runs)


def resume_runs(runs: Sequence[str], output_dir: Path, *, device: str | None = None, is_trusted: bool = False) -> bool:
    """Train the named runs to their last step on this machine, with the options of their launch, and show them.

    This is for runs that halving stopped, but also for any others. `device` replaces that of the launch. If
    `is_trusted`, whatever the runs' configs name is called; see `config.trust`. Returns whether all are done. Raises
    ValueError for a mistake, before anything is trained.
    """
    points = {folder: folder.read_point() for folder in (find_run(run, output_dir) for run in runs)}
    first = next(iter(points))
    options = first.read_launch_options()
    options = replace(options, output_dir=str(first.output_dir), overwrite=False, device=device or options.device)
    named = trust.targets_of_points(points.values()) | trust.targets_of_options(options) if is_trusted else frozenset()
    from vae_sweeps.config.errors import RefusedError  # hydra
    from vae_sweeps.launch.carry_out import carry_out  # torch, which takes seconds
    from vae_sweeps.launch.request import Launch

    try:
        ended = carry_out(Launch(list(points.values()), [[]] * len(points), options, allowed=named))
    except RefusedError as error:
        raise ValueError(str(error)) from None
    return ended is not None and all(result is not None and result["status"] == "done" for _, result in ended)


def _half_of_those_without_memory(sweep: SweepFolder, points: Iterable[PointState]) -> int | None:
    """Half of the points of the smallest job that SLURM ended because the memory was not enough; None without any."""
    runs_of = sweep.submitted().runs_of
    tasks = {point.task for point in points if point.reason.startswith("OUT_OF_MEMORY")}
    sizes = [len(runs_of[task]) for task in tasks if task in runs_of]
    if not sizes:
        return None
    half = max(1, min(sizes) // 2)
    log.warning("%s: a job ran out of memory; packs have at most %d points now", sweep.name, half)
    return half
