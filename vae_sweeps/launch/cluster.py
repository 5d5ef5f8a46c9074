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
from vae_sweeps.system import slurm
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
    tasks, left, words = submitted.tasks, set(submitted.left), submitted.words
    packs = [pack for pack in plan.packs if settings.elastic or pack[0].name not in left]
    points, in_short = count(sum(map(len, packs)), "point"), _in_short(tasks)
    if tasks and settings.elastic:
        log.info("%s for %s submitted: %s", count(len(tasks), "worker"), points, in_short)
    elif tasks:
        log.info("%s in %s submitted as %s: %s", points, count(len(packs), "pack"), count(len(tasks), "job"), in_short)
    if words:
        log.info("sbatch takes no more jobs now: %s", words)
    if left:
        log.info("%s left; when there is room, this submits them: vae-sweeps wait %s", count(len(left), "point"), sweep)


def _in_short(tasks: Iterable[str]) -> str:
    """Job ids, with the elements of an array as one range."""
    arrays: dict[str, int] = {}
    for task in tasks:
        arrays[slurm.job_of(task)] = arrays.get(slurm.job_of(task), 0) + 1
    return ", ".join(job if n == 1 else f"{job}_[0-{n - 1}]" for job, n in arrays.items())
