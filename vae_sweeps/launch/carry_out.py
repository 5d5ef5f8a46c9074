"""Carry out a launch: check it, train what is missing, and show the results."""

import logging
import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from vae_sweeps.config import source, trust
from vae_sweeps.config.secrets import hide_in_override
from vae_sweeps.launch.door import checking, current_invocation
from vae_sweeps.launch.plan import Plan
from vae_sweeps.launch.planning import make_plan
from vae_sweeps.launch.request import Launch
from vae_sweeps.runs import claims, own_source, states
from vae_sweeps.runs.run_folder import STOPPED, RunFolder
from vae_sweeps.system import files, git
from vae_sweeps.tracker import requirements

log = logging.getLogger(__name__)

INTERRUPTED = 130  # the exit code that shells report after Ctrl-C


class Ended(NamedTuple):
    """A point of a launch, and its result, if it has one."""

    run: RunFolder
    result: Mapping[str, Any] | None


def carry_out(launch: Launch, *, may_detach: bool = True) -> list[Ended] | None:
    """Check the points, train those that are not done, and show the results.

    Returns what became of each point, in order; None if the points were only submitted to a cluster. A dry run exits
    when it has shown the plan.
    """
    with trust.allowing(launch.allowed):
        return _check_and_train(launch, may_detach=may_detach)


def _check_and_train(launch: Launch, *, may_detach: bool) -> list[Ended] | None:
    with checking():
        requirements.check(launch.options.tracker.mode)
        queued = set()
        if launch.cluster is not None:
            assert launch.sweep is not None
            if launch.halving is not None and not launch.cluster.elastic:
                raise ValueError("hydra.sweeper.halving: needs hydra.launcher.elastic=true on a cluster")
            from vae_sweeps.launch import submit  # submitit

            submit.check(launch.cluster, launch.options.devices)
            queued = states.runs_in_queue(launch.sweep)
        plan = make_plan(launch, queued)
    if launch.options.dry_run:
        from vae_sweeps.launch import dry_run

        dry_run.show(plan, launch)
        sys.exit(0)  # a sweeper that needs values cannot go on without them
    _make_folders(plan, launch)
    was_interrupted = False
    if launch.cluster is not None:
        from vae_sweeps.launch import cluster

        with checking():
            is_over = cluster.on_cluster(plan, launch, may_detach=may_detach)
        if not is_over:
            return None
    elif plan.has_work:
        from vae_sweeps.launch import local  # torch, which takes seconds

        was_interrupted = local.run_here(plan, launch)
    runs, results = plan.runs, plan.results
    # With halving, any run may have been trained: also one that an earlier launch had stopped.
    trained = runs.unique if plan.halving else [run for pack in plan.packs for run in pack]
    results.forget([*trained, *plan.to_evaluate])
    if not launch.is_batch:
        from vae_sweeps.launch import summary  # pandas, which a launch that only submits jobs does not need

        summary.show(list(runs.unique), launch.swept, launch.sweep, results)
    if was_interrupted:
        log.info("interrupted; everything is saved, and the same command resumes")
        sys.exit(INTERRUPTED)
    ended = [Ended(run, results.of(run)) for run in runs.folders]
    if launch.is_batch:
        return ended
    from vae_sweeps.launch import on_end

    on_end.announce(launch.sweep, launch.options.on_end)
    if any(result is None or result["status"] not in ("done", STOPPED) for _, result in ended):
        current_invocation().exit_code = 1
    return ended


def _make_folders(plan: Plan, launch: Launch) -> None:
    """Create the folders of the runs and the sweep, and record the launch."""
    runs, todo = plan.runs, {run for pack in plan.packs for run in pack}

    def create(run: RunFolder) -> None:
        point, overrides = runs.unique[run]
        shown = [hide_in_override(override) for override in overrides]
        files_of_run = runs.sources[run]
        archive = own_source.packed(files_of_run) if files_of_run else b""
        digest = source.digest_of(files_of_run)
        run.create(point, launch.options, shown, git.diff(), runs.data_fingerprints[run], digest, archive)
        if run in todo and (run.failure.exists() or plan.results.of(run) is not None):
            with claims.taken([run]) as claimed:  # else another process has just begun to train it
                for ours in claimed:
                    ours.reopen()
                    ours.clear(keep_training=not launch.options.overwrite)
        elif run not in todo:
            claims.remove_stale(run)

    with ThreadPoolExecutor(16) as pool:  # each point has several small files, which are flushed to the disk
        list(pool.map(create, runs.unique))
    if launch.sweep is not None:
        launch.sweep.add([run.name for run in runs.unique], launch.swept)
        if launch.options.overwrite:
            shutil.rmtree(launch.sweep.rungs, ignore_errors=True)
        if plan.halving is not None:
            plan.halving.write(launch.sweep)
        else:
            launch.sweep.halving.unlink(missing_ok=True)
        new = [run.name for pack in plan.packs for run in pack]
        command = [hide_in_override(argument) for argument in current_invocation().command]
        launch.sweep.log_launch({"at": files.now(), "command": command, "new": new})
