"""Where a plan is carried out: in this process, or by the jobs of a cluster."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from vae_sweeps import machine, states, store, submission
from vae_sweeps.config import read_point
from vae_sweeps.planning import Plan, count, make_plan, num_workers
from vae_sweeps.schema import Evaluation, LocalLauncher, Point, SlurmLauncher, Tracker
from vae_sweeps.tracker.live import linked
from vae_sweeps.worker import Conditions, evaluate_runs, run_pack

log = logging.getLogger(__name__)

# What `retry` takes up; a point that has diverged would diverge again.
_RETRIED = ("failed", "preempted", "lost")


def here(plan: Plan, first: Point, launcher: LocalLauncher | None = None, sweep_folder: Path | None = None) -> bool:
    """Train and evaluate on this machine; returns whether it was told to stop."""
    device = machine.resolve_device(first.device)
    workers = min(len(plan.packs), max(1, num_workers(launcher, first.device) // first.devices))
    if plan.packs:
        num_points = sum(map(len, plan.packs))
        side_by_side = f", {workers} side by side" if workers > 1 else ""
        packs = count(len(plan.packs), "pack")
        place = str(device) if first.devices == 1 else f"{first.devices} of {device.type}"
        log.info("%s to train in %s on %s%s", count(num_points, "point"), packs, place, side_by_side)
    machine.prepare()
    with machine.stop_signals() as should_stop, linked(first.tracker, sweep_folder) as link:
        conditions = Conditions(device, first.checkpoint_every_s, should_stop, first.evaluation, link=link)
        if plan.packs and (first.devices > 1 or (workers > 1 and sweep_folder is not None)):
            threads = max(1, torch.get_num_threads() // (workers * first.devices))
            jobs = [submission.job_of([pack], [], first, sweep_folder) for pack in plan.packs]
            jobs = [replace(job, num_threads=threads) for job in jobs]
            folder = (sweep_folder or plan.packs[0][0]) / "jobs"
            submission.run_side_by_side(jobs, workers, folder, should_stop)
            _show_failures([run for pack in plan.packs for run in pack])
        else:
            for i, pack in enumerate(plan.packs):
                if not should_stop():
                    run_pack(pack, conditions, label=f"pack {i + 1}/{len(plan.packs)} ({count(len(pack), 'point')})")
        if plan.to_evaluate:
            log.info("%s to evaluate", count(len(plan.to_evaluate), "point"))
            evaluate_runs(plan.to_evaluate, conditions)
        return should_stop()


def _show_failures(runs: Iterable[Path]) -> None:
    """What went wrong in processes whose words went to files: each text once, with the runs that it ended."""
    found: dict[str, list[str]] = {}
    for run in runs:
        if (run / store.FAILURE).exists():
            found.setdefault((run / store.FAILURE).read_text(), []).append(run.name)
    for text, names in found.items():
        log.error("%s failed: %s", ", ".join(names), text)


def on_cluster(
    plan: Plan, first: Point, cluster: SlurmLauncher, sweep_folder: Path, *, may_detach: bool = True
) -> bool:
    """Submit what is missing, say so, and return; or wait for the end. Returns whether it is over.

    Raises ValueError with sbatch's words.
    """
    name = sweep_folder.name
    if plan.packs or plan.to_evaluate:
        tasks = submission.submit(plan.packs, plan.to_evaluate, first, cluster, sweep_folder)
        num_points = sum(map(len, plan.packs))
        log.info(
            "%s in %s submitted as %s: %s",
            count(num_points, "point"), count(len(plan.packs), "pack"), count(len(tasks), "job"), _in_short(tasks),
        )  # fmt: skip
    else:
        log.info("nothing to submit")
    if not cluster.wait and may_detach:
        log.info("where it stands: vae-sweeps status %s%s", name, _option(first.output_dir))
        return False
    if not cluster.wait:
        log.info("the sweeper needs the points' values, so this waits for them")
    states.wait(sweep_folder)
    return True


def retry(where: str, output_dir: Path) -> bool:
    """Take up the sweep's points that failed, were preempted or are lost, as they were launched last.

    Returns whether all that could be done here is done. Raises ValueError if there is no such sweep, or SLURM refuses.
    """
    sweep_folder = states.find(where, output_dir)
    found = [point for point in states.of_sweep(sweep_folder) if point.state in _RETRIED]
    if not found:
        log.info("%s: nothing to take up: %s", sweep_folder.name, states.counts(states.of_sweep(sweep_folder)))
        return True
    runs = sweep_folder.parent.parent / "runs"
    points = [read_point(runs / point.run / store.CONFIG) for point in found]
    points = [replace(point, output_dir=str(sweep_folder.parent.parent), overwrite=False) for point in points]
    for point in found:
        store.clear_run(runs / point.run, keep_training=True)
    log.info("%s: taking up %s", sweep_folder.name, states.counts(found))
    last = submission.last_settings(sweep_folder)
    if last is None:
        here(make_plan(points, [[]] * len(points)), points[0])
        return all(store.has_ended(runs / point.run) for point in found)
    cluster = SlurmLauncher(**last["launcher"])
    how = last["job"]
    groups = {"evaluation": Evaluation(**how["evaluation"]), "tracker": Tracker(**how.get("tracker", {}))}
    first = replace(points[0], **(how | groups))
    on_cluster(make_plan([first, *points[1:]], [[]] * len(points), cluster), first, cluster, sweep_folder)
    return True


def _in_short(tasks: Iterable[str]) -> str:
    """Job ids, the elements of an array as one."""
    arrays: dict[str, int] = {}
    for task in tasks:
        arrays[task.split("_")[0]] = arrays.get(task.split("_")[0], 0) + 1
    return ", ".join(job if n == 1 else f"{job}_[0-{n - 1}]" for job, n in arrays.items())


def _option(output_dir: str) -> str:
    return "" if output_dir == "outputs" else f" --output-dir {output_dir}"
