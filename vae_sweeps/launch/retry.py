"""Resume the failed, preempted and lost points of a sweep."""

import logging
from dataclasses import replace
from pathlib import Path

from vae_sweeps.config import trust
from vae_sweeps.config.launch_options import options_from
from vae_sweeps.config.launchers import SlurmLauncher
from vae_sweeps.launch.request import Launch
from vae_sweeps.runs import claims, states
from vae_sweeps.runs.run_folder import readable_points
from vae_sweeps.runs.sweep_folder import get_sweep

log = logging.getLogger(__name__)

# Without 'diverged', since a diverged point would diverge again.
_RETRIED = ("failed", "preempted", "lost")


def retry_sweep(where: str, output_dir: Path, *, is_trusted: bool = False) -> bool:
    """Resume the sweep's points that failed, were preempted or are lost, with the settings of their last launch.

    If `is_trusted`, whatever the runs' configs name is called; see `config.trust`. Returns False if points on this
    machine did not finish. Raises ValueError if the sweep does not exist, if the user has not launched it and it names
    anything but vae-sweeps' own functions, or if SLURM rejects the jobs.
    """
    sweep = get_sweep(where, output_dir)
    to_retry = [point for point in states.of_sweep(sweep) if point.state in _RETRIED]
    if not to_retry:
        log.info("%s: nothing to retry: %s", sweep.name, states.counts(states.of_sweep(sweep)))
        return True
    from vae_sweeps.launch import local, plan, resubmission, submit  # torch, which takes seconds

    all_points = readable_points(sweep.run(point.run) for point in to_retry)
    runs, points = list(all_points), list(all_points.values())
    if not runs:
        raise ValueError(f"{where}: no config of its points can be read; launch it again with its own command")
    last = resubmission.read(sweep, is_trusted=is_trusted) if sweep.read_submissions() else None
    options = options_from(last["options"]) if last else runs[0].read_launch_options()
    named = trust.targets_of_points(points) | trust.targets_of_options(options) if is_trusted else frozenset()
    launch = Launch(
        points=points,
        overrides=[[]] * len(runs),
        options=replace(options, output_dir=str(sweep.output_dir), overwrite=False),
        launcher=SlurmLauncher(**last["launcher"]) if last else None,
        sweep=sweep,
        allowed=named | frozenset(last["allowed"] if last else ()),
    )
    with trust.allowing(launch.allowed):
        planned = plan.make_plan(launch)
        with claims.taken(runs) as claimed:
            for run in claimed:
                run.clear(keep_training=True)
        log.info("%s: retrying %s", sweep.name, states.counts(to_retry))
        if last:
            submit.on_cluster(planned, launch)
            return True
        local.run_here(planned, launch)
    return len(runs) == len(to_retry) and all(run.has_ended() for run in runs)
