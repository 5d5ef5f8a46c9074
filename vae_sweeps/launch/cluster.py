"""Carry out a plan on a SLURM cluster: submit what is missing, say so, and wait if that is wanted."""

import logging
import shlex
from collections.abc import Iterable

from vae_sweeps.config.launchers import SlurmLauncher
from vae_sweeps.launch.again import submit_rest
from vae_sweeps.launch.plan import Plan
from vae_sweeps.launch.request import Launch
from vae_sweeps.launch.submit import Submitted, submit
from vae_sweeps.runs import states
from vae_sweeps.runs.sweep_folder import output_dir_option
from vae_sweeps.system.logs import count

log = logging.getLogger(__name__)


def on_cluster(plan: Plan, launch: Launch, *, may_detach: bool = True) -> bool:
    """Submit what is missing, and wait for the jobs if the settings or the sweeper require it.

    Returns whether the jobs have ended. Raises ValueError with the message of sbatch.
    """
    assert launch.cluster is not None
    assert launch.sweep is not None
    sweep = f"{shlex.quote(launch.sweep.name)}{output_dir_option(launch.sweep)}"
    if plan.packs or plan.to_evaluate:
        _report(submit(plan, launch), plan, launch.cluster, sweep)
    else:
        log.info("nothing to submit")
    if not launch.cluster.wait and may_detach:
        log.info("see its progress: vae-sweeps status %s", sweep)
        return False
    if not launch.cluster.wait:
        log.info("the sweeper needs the points' values; waiting for them")
    states.wait(launch.sweep, when_room=submit_rest)
    return True


def _report(submitted: Submitted, plan: Plan, settings: SlurmLauncher, sweep: str) -> None:
    tasks, left, words = submitted
    num_points = sum(map(len, plan.packs))
    if settings.elastic:
        workers = count(len(tasks), "worker")
        log.info("%s for %s submitted: %s", workers, count(num_points, "point"), _in_short(tasks))
    elif tasks:
        num_left = sum(run in set(left) for pack in plan.packs for run in pack)
        packs = count(len([pack for pack in plan.packs if pack[0] not in set(left)]), "pack")
        points, jobs = count(num_points - num_left, "point"), count(len(tasks), "job")
        log.info("%s in %s submitted as %s: %s", points, packs, jobs, _in_short(tasks))
    if words:
        log.info("no room for more jobs now: sbatch: %s", words)
    if left:
        points = count(len(left), "point")
        log.info("%s left; when there is room, this submits them: vae-sweeps wait %s", points, sweep)


def _in_short(tasks: Iterable[str]) -> str:
    """Job ids, with the elements of an array as one range."""
    arrays: dict[str, int] = {}
    for task in tasks:
        arrays[task.split("_")[0]] = arrays.get(task.split("_")[0], 0) + 1
    return ", ".join(job if n == 1 else f"{job}_[0-{n - 1}]" for job, n in arrays.items())
