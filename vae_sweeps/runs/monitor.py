"""What `vae-sweeps status SWEEP` shows below the counts of points. Does not import torch."""

from collections.abc import Sequence

from vae_sweeps.runs import forecast, running_jobs, states
from vae_sweeps.runs.states import PointState
from vae_sweeps.runs.sweep_folder import SweepFolder


def described(sweep: SweepFolder, points: Sequence[PointState]) -> list[str]:
    """Lines on the sweep's speed, end and cost, on its running jobs, and on the points that are not done."""
    jobs = running_jobs.read(sweep)
    lines = forecast.described(forecast.of_sweep(points, jobs))
    return [*(f"  {line}" for line in lines), *running_jobs.described(jobs), *states.described(points)]
