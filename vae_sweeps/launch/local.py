"""Carry out a plan on this machine, in this process or in several worker processes."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from vae_sweeps.launch import halving
from vae_sweeps.launch.evaluating import evaluate_here
from vae_sweeps.launch.job import job_of
from vae_sweeps.launch.plan import Plan
from vae_sweeps.launch.reporting import reported
from vae_sweeps.launch.request import Launch
from vae_sweeps.launch.side_by_side import run_side_by_side
from vae_sweeps.launch.worker import JobContext, References, run_pack
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import machine
from vae_sweeps.system.logs import count
from vae_sweeps.tracker.link import linked

log = logging.getLogger(__name__)


def run_here(plan: Plan, launch: Launch) -> bool:
    """Train and evaluate on this machine; returns whether this was interrupted."""
    options, devices = launch.options, launch.options.devices
    device = machine.resolve_device(options.device)
    if plan.packs:
        log.info("%s", described(plan, device, devices))
    with machine.stop_signals() as should_stop, linked(options.tracker, launch.sweep) as link:
        context = JobContext(device, options, should_stop, References(options, device), link)
        if plan.halving is None:
            _train(plan.packs, plan.num_workers, launch, context)
        else:
            assert launch.sweep is not None
            assert plan.packed is not None
            for found in halving.stages(plan.halving, launch.sweep, should_stop):
                for stage in found:
                    _train(plan.packed(stage.runs), plan.num_workers, launch, replace(context, rung=stage.rung))
        if plan.to_evaluate:
            log.info("%s to evaluate", count(len(plan.to_evaluate), "point"))
            evaluate_here({run: plan.runs.unique[run][0] for run in plan.to_evaluate}, launch, context)
        return should_stop()


def described(plan: Plan, device: torch.device, devices: int = 1) -> str:
    """How many points are trained, in how many packs, and how many of them side by side."""
    num_points, side_by_side = sum(map(len, plan.packs)), min(len(plan.packs), plan.num_workers)
    where = str(device) if devices == 1 else f"{devices} of {device.type}"
    text = f"{count(num_points, 'point')} to train in {count(len(plan.packs), 'pack')} on {where}"
    return f"{text}, {side_by_side} side by side" if side_by_side > 1 else text


def _train(packs: Sequence[Sequence[RunFolder]], num_workers: int, launch: Launch, context: JobContext) -> None:
    """Train the packs, one after another or side by side."""
    devices, should_stop = launch.options.devices, context.should_stop
    workers = min(len(packs), num_workers)
    labels = [f"pack {i + 1}/{len(packs)} ({count(len(pack), 'point')})" for i, pack in enumerate(packs)]
    if packs and (devices > 1 or (workers > 1 and launch.sweep is not None)):
        threads = max(1, torch.get_num_threads() // (workers * devices))
        jobs = [
            replace(job_of([pack], [], launch), num_threads=threads, rung=context.rung, label=label)
            for pack, label in zip(packs, labels, strict=True)
        ]
        run_side_by_side(jobs, workers, (launch.sweep or packs[0][0]).jobs, should_stop, machine.visible_gpus())
        if devices > 1:
            _show_failures(run for pack in packs for run in pack)
    elif packs:
        with reported(launch.sweep, context.device):
            for pack, label in zip(packs, labels, strict=True):
                if not should_stop():
                    run_pack(pack, context, label)


def _show_failures(runs: Iterable[RunFolder]) -> None:
    """Log the errors of ranks whose output went to files: each error once, with the runs that it affected."""
    names_by_text: dict[str, list[str]] = {}
    for run in runs:
        if (text := run.read_failure()) is not None:
            names_by_text.setdefault(text, []).append(run.name)
    for text, names in names_by_text.items():
        log.error("%s failed: %s", ", ".join(names), text)
