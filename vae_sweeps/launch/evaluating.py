"""Evaluate runs on this machine, in this process or in several side by side."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from vae_sweeps.config.schema import Point
from vae_sweeps.launch.folders import check_jobs
from vae_sweeps.launch.job import job_of
from vae_sweeps.launch.reporting import reported
from vae_sweeps.launch.request import Launch
from vae_sweeps.launch.side_by_side import run_side_by_side
from vae_sweeps.launch.worker import JobContext, evaluate_runs
from vae_sweeps.launch.workers import number_of_evaluators
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import machine
from vae_sweeps.system.logs import count

log = logging.getLogger(__name__)


def evaluate_here(points: Mapping[RunFolder, Point], launch: Launch, context: JobContext) -> None:
    """Evaluate the missing parts of these runs, with the options of `launch`.

    That is done in `launch.workers` processes, or in as many as are expected to end first. The numbers do not depend on
    it.
    """
    number = number_of_evaluators(len(points), launch, context.device)
    folder = launch.sweep or next(iter(points))
    if number > 1:
        try:
            check_jobs(folder)
        except ValueError as error:
            log.warning("%s; evaluating in this process", error)
            number = 1
    if number == 1:
        with reported(launch.sweep, context.device):
            evaluate_runs(list(points), context)
        return
    log.info("%s evaluated in %d processes", count(len(points), "point"), number)
    # Each process takes the next run when it is free. Points of more latents take longer, and come first.
    runs = sorted(points, key=lambda run: -points[run].latent)
    jobs = [
        replace(
            job_of([], runs, launch),
            num_threads=max(1, machine.num_threads() // number),
            explicit=context.explicit,
            keeps_place=context.link.keeps_place,
            label=f"evaluation {i + 1}/{number}",
        )
        for i in range(number)
    ]
    run_side_by_side(jobs, number, folder.jobs, context.should_stop, machine.visible_gpus())
