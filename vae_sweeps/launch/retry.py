"""Take up a sweep's failed, preempted and lost points again."""

import logging
from dataclasses import replace
from pathlib import Path

from vae_sweeps.config.point import read_point
from vae_sweeps.config.schema import Evaluation, SlurmLauncher, Tracker
from vae_sweeps.launch import submit
from vae_sweeps.launch.local import run_here
from vae_sweeps.launch.plan import make_plan
from vae_sweeps.launch.submit import on_cluster
from vae_sweeps.runs import run_folder, states

log = logging.getLogger(__name__)

# What `retry` takes up; a point that has diverged would diverge again.
_RETRIED = ("failed", "preempted", "lost")


def retry_sweep(where: str, output_dir: Path) -> bool:
    """Take up the sweep's points that failed, were preempted or are lost, as they were launched last.

    Returns whether all that could be done here is done. Raises ValueError if there is no such sweep, or SLURM refuses.
    """
    sweep_folder = states.find(where, output_dir)
    found = [point for point in states.of_sweep(sweep_folder) if point.state in _RETRIED]
    if not found:
        log.info("%s: nothing to take up: %s", sweep_folder.name, states.counts(states.of_sweep(sweep_folder)))
        return True
    runs = sweep_folder.parent.parent / "runs"
    points = [read_point(runs / point.run / run_folder.CONFIG) for point in found]
    points = [replace(point, output_dir=str(sweep_folder.parent.parent), overwrite=False) for point in points]
    for point in found:
        run_folder.clear_run(runs / point.run, keep_training=True)
    log.info("%s: taking up %s", sweep_folder.name, states.counts(found))
    last = submit.last_settings(sweep_folder)
    if last is None:
        run_here(make_plan(points, [[]] * len(points)), points[0])
        return all(run_folder.has_ended(runs / point.run) for point in found)
    cluster = SlurmLauncher(**last["launcher"])
    how = last["job"]
    groups = {"evaluation": Evaluation(**how["evaluation"]), "tracker": Tracker(**how.get("tracker", {}))}
    first = replace(points[0], **(how | groups))
    on_cluster(make_plan([first, *points[1:]], [[]] * len(points), cluster), first, cluster, sweep_folder)
    return True
