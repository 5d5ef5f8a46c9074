"""Launch points of a sweep again, with the settings of its last launch."""

import logging
from collections.abc import Iterable
from dataclasses import replace

from vae_sweeps.config import trust
from vae_sweeps.config.launch_options import options_from
from vae_sweeps.config.launchers import SlurmLauncher
from vae_sweeps.launch.request import Launch
from vae_sweeps.runs.run_folder import readable_points
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system.logs import count

log = logging.getLogger(__name__)


def launch_again(sweep: SweepFolder, names: Iterable[str], *, is_trusted: bool = False) -> Launch:
    """A launch of the runs `names` with the settings of the sweep's last one.

    Leaves out runs whose config cannot be read, and reports them. If `is_trusted`, whatever the configs name is called.
    Raises ValueError if no config can be read, or if the settings are not this user's own.
    """
    from vae_sweeps.launch import resubmission

    all_points = readable_points(sweep.run(name) for name in names)
    runs, points = list(all_points), list(all_points.values())
    if not runs:
        raise ValueError(f"{sweep.path}: no config of its points can be read; launch it again with its own command")
    last = resubmission.read(sweep, is_trusted=is_trusted) if sweep.read_submissions() else None
    options = options_from(last["options"]) if last else runs[0].read_launch_options()
    named = trust.targets_of_points(points) | trust.targets_of_options(options) if is_trusted else frozenset()
    return Launch(
        points=points,
        overrides=[[]] * len(runs),
        options=replace(options, output_dir=str(sweep.output_dir), overwrite=False),
        launcher=SlurmLauncher(**last["launcher"]) if last else None,
        sweep=sweep,
        allowed=named | frozenset(last["allowed"] if last else ()),
    )


def submit_rest(sweep: SweepFolder) -> None:
    """Submit the points for which the queue had no room before, as far as there is room now.

    Raises ValueError as `launch_again` does, or if SLURM rejects the jobs.
    """
    from vae_sweeps.launch import plan, submit

    launch = launch_again(sweep, sweep.unsubmitted())
    assert launch.cluster is not None
    with trust.allowing(launch.allowed):
        submitted = submit.submit(plan.make_plan(launch), launch)
    if submitted.tasks:
        log.info(
            "%s: %s submitted, %d points left", sweep.name, count(len(submitted.tasks), "job"), len(submitted.left)
        )
