"""Carry out a plan on this machine, in this process or in several worker processes."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import submitit
import torch

from vae_sweeps.launch import halving
from vae_sweeps.launch.job import Job, job_of
from vae_sweeps.launch.plan import Plan
from vae_sweeps.launch.reporting import reported
from vae_sweeps.launch.request import Launch
from vae_sweeps.launch.worker import JobContext, References, evaluate_runs, run_pack
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import machine, private
from vae_sweeps.system.gpus import of_slot
from vae_sweeps.system.logs import count
from vae_sweeps.tracker.link import linked

log = logging.getLogger(__name__)

_NO_LIMIT_MIN = 365 * 24 * 60


def run_side_by_side(
    jobs: Sequence[Job], num_slots: int, folder: Path, should_stop: Callable[[], bool], gpus: Sequence[str]
) -> None:
    """Run `jobs` on this machine with submitit's local executor, at most `num_slots` at a time.

    Every process of a job uses its own one of `gpus` (names for CUDA_VISIBLE_DEVICES), if there are enough. If
    `should_stop()`, ask the running jobs to save and exit, and wait for them.
    """
    waiting, running, stopped = list(jobs), dict[int, submitit.Job[None]](), set[str]()
    while (waiting and not should_stop()) or running:
        for slot in [slot for slot, job in running.items() if job.done()]:
            del running[slot]
        for slot in sorted(set(range(num_slots)) - set(running)):
            if waiting and not should_stop():
                running[slot] = _start(waiting.pop(0), slot, folder, gpus)
        for job in running.values():
            if should_stop() and job.job_id not in stopped:
                stopped.add(job.job_id)
                os.kill(int(job.job_id), signal.SIGTERM)  # the job's controller, which forwards the signal
        time.sleep(0.2)


def _start(job: Job, slot: int, folder: Path, gpus: Sequence[str]) -> "submitit.Job[None]":
    visible = of_slot(gpus, slot, job.devices)
    private.make_folder(folder)
    executor = submitit.LocalExecutor(folder=folder)
    executor.update_parameters(timeout_min=_NO_LIMIT_MIN, tasks_per_node=job.devices, gpus_per_node=len(visible))
    # `update_parameters` takes indices only, but these may be UUIDs and MIG instances.
    executor.parameters["visible_gpus"] = visible
    # A terminal sends Ctrl-C to all its processes. Jobs ignore it; this process stops them in order.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return executor.submit(job)
    finally:
        private.close_files(folder)
        signal.signal(signal.SIGINT, handler)


def run_here(plan: Plan, launch: Launch) -> bool:
    """Train and evaluate on this machine; returns whether this was interrupted."""
    options, devices = launch.options, launch.options.devices
    device = machine.resolve_device(options.device)
    workers = min(len(plan.packs), max(1, launch.num_workers // devices))
    if plan.packs:
        num_points = sum(map(len, plan.packs))
        side_by_side = f", {workers} side by side" if workers > 1 else ""
        packs = count(len(plan.packs), "pack")
        where = str(device) if devices == 1 else f"{devices} of {device.type}"
        log.info("%s to train in %s on %s%s", count(num_points, "point"), packs, where, side_by_side)
    machine.prepare()
    with machine.stop_signals() as should_stop, linked(options.tracker, launch.sweep) as link:
        context = JobContext(device, options, should_stop, References(options, device), link)
        if plan.halving is None:
            _train(plan.packs, launch, context)
        else:
            assert launch.sweep is not None
            for found in halving.stages(plan.halving, launch.sweep, should_stop):
                for stage in found:
                    _train(plan.packed(stage.runs), launch, replace(context, rung=stage.rung))
        if plan.to_evaluate:
            log.info("%s to evaluate", count(len(plan.to_evaluate), "point"))
            with reported(launch.sweep, device):
                evaluate_runs(plan.to_evaluate, context)
        return should_stop()


def _train(packs: Sequence[Sequence[RunFolder]], launch: Launch, context: JobContext) -> None:
    """Train the packs, one after another or side by side."""
    devices, should_stop = launch.options.devices, context.should_stop
    workers = min(len(packs), max(1, launch.num_workers // devices))
    if packs and (devices > 1 or (workers > 1 and launch.sweep is not None)):
        threads = max(1, torch.get_num_threads() // (workers * devices))
        jobs = [replace(job_of([pack], [], launch), num_threads=threads, rung=context.rung) for pack in packs]
        run_side_by_side(jobs, workers, (launch.sweep or packs[0][0]).jobs, should_stop, machine.visible_gpus())
        _show_failures(run for pack in packs for run in pack)
    elif packs:
        with reported(launch.sweep, context.device):
            for i, pack in enumerate(packs):
                if not should_stop():
                    run_pack(pack, context, label=f"pack {i + 1}/{len(packs)} ({count(len(pack), 'point')})")


def _show_failures(runs: Iterable[RunFolder]) -> None:
    """Log the errors of processes whose output went to files: each error once, with the runs that it affected."""
    names_by_text: dict[str, list[str]] = {}
    for run in runs:
        if (text := run.read_failure()) is not None:
            names_by_text.setdefault(text, []).append(run.name)
    for text, names in names_by_text.items():
        log.error("%s failed: %s", ", ".join(names), text)
