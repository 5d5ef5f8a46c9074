"""Launch points of a sweep again, with the settings of its last launch."""

import logging
from collections.abc import Iterable
from dataclasses import replace

from vae_sweeps.config import trust
from vae_sweeps.config.launch_options import options_from
from vae_sweeps.config.launchers import SlurmLauncher
from vae_sweeps.launch.request import Launch
from vae_sweeps.runs.rungs import Halving
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import lease
from vae_sweeps.system.logs import count, warn_once
from vae_sweeps.tracker import requirements

log = logging.getLogger(__name__)


def launch_again(sweep: SweepFolder, names: Iterable[str], *, is_trusted: bool = False) -> Launch:
    """A launch of the runs `names` with the settings of the sweep's last one.

    Leaves out runs whose config cannot be read, and reports them. If `is_trusted`, whatever the configs name is called.
    Raises ValueError if no config can be read, if the settings are not this user's own, or if their tracker cannot be
    used here.
    """
    from vae_sweeps.launch import resubmission

    halving = Halving.read(sweep)
    if halving is not None:  # which points go on depends on the others
        names = dict.fromkeys([*names, *(run for bracket in halving.brackets for run in bracket.runs)])
    points = sweep.points_of(names)
    last = resubmission.read(sweep, is_trusted=is_trusted) if sweep.read_submissions() else None
    options = options_from(last["options"]) if last else next(iter(points)).read_launch_options()
    requirements.check(options.tracker.mode)
    named = trust.targets_of_points(points.values()) | trust.targets_of_options(options) if is_trusted else frozenset()
    return Launch(
        points=list(points.values()),
        overrides=[[]] * len(points),
        options=replace(options, output_dir=str(sweep.output_dir), overwrite=False),
        launcher=SlurmLauncher(**last["launcher"]) if last else None,
        sweep=sweep,
        allowed=named | frozenset(last["allowed"] if last else ()),
        halving=halving,
    )


def submit_rest(sweep: SweepFolder) -> bool:
    """Submit the points for which the queue had no room before, as far as there is room now.

    Returns False, and says why, if this user cannot submit them: another one has launched them. Raises ValueError if
    SLURM rejects the jobs.
    """
    from vae_sweeps.launch import planning, submit

    turn = lease.take(sweep.path, sweep.REST)
    if turn is None:
        return True  # another process of this user is submitting them
    with turn:
        try:
            launch = launch_again(sweep, sweep.submitted().unsubmitted)
        except ValueError as error:
            warn_once(f"{sweep.name}: the points that are left are not submitted here: {error}")
            return False
        with trust.allowing(launch.allowed):
            submitted = submit.submit(planning.make_plan(launch), launch, is_full=True)
    if submitted.tasks:
        jobs, left = count(len(submitted.tasks), "job"), count(len(submitted.left), "point")
        log.info("%s: %s submitted, %s left", sweep.name, jobs, left)
    return True
