"""How fast a sweep goes, when it will end, and what it costs. Computed from states and jobs; does not import torch.

All is reckoned in the time of devices, of which a running job uses one second per second and device, however many
points it trains together.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vae_sweeps.runs.costs import Cost
from vae_sweeps.runs.running_jobs import RunningJob
from vae_sweeps.runs.states import PointState

_S_PER_H = 3600
_OVER = {"done", "stopped", "diverged", "failed"}  # nothing goes on with these points


@dataclass(frozen=True)
class Forecast:
    """Device seconds used and expected in total (None if not known), of GPUs or, where there are none, of CPU cores.

    Unless `is_whole`, more has been used. `points_per_h` and `left_s`, the seconds until the end, are None if no job
    runs or no point has got anywhere yet.
    """

    kind: Literal["gpu", "core"]
    used_s: float
    is_whole: bool
    expected_s: float | None = None
    points_per_h: float | None = None
    left_s: float | None = None


def of_sweep(points: Sequence[PointState], jobs: Sequence[RunningJob]) -> Forecast:
    """What the points' costs and progress say, if the jobs that run now go on and points cost what others did.

    Points that are lost, interrupted, preempted or pending count as work that is left.
    """
    used = sum((point.cost for point in points), Cost())
    kind = "gpu" if used.gpu_s or any(job.kind == "gpu" for job in jobs) else "core"
    so_far = Forecast(kind, _of(used, kind), used.is_whole)
    unfinished = [point for point in points if point.state not in _OVER]
    per_point_s = _per_point_s(points, kind)
    if per_point_s is None or not unfinished:
        return so_far
    left = [_left_s(point, kind, per_point_s) for point in unfinished]
    so_far = replace(so_far, expected_s=so_far.used_s + math.fsum(left))
    devices = [(job.job, job.count) for job in jobs if job.kind == kind]
    if not devices:
        return so_far
    num_devices = sum(number for _, number in devices)
    # A point is bound to its job, so the sweep does not end before the job that has the most to do, running or queued.
    by_job: dict[str, float] = {}
    for point, seconds in zip(unfinished, left, strict=True):
        if point.task is not None and point.state in ("running", "queued"):
            number = dict(devices).get(point.task, num_devices / len(devices))
            by_job[point.task] = by_job.get(point.task, 0.0) + seconds / number
    left_s = max(math.fsum(left) / num_devices, *by_job.values(), 0.0)
    return replace(so_far, points_per_h=num_devices * _S_PER_H / per_point_s, left_s=left_s)


def _of(cost: Cost, kind: str) -> float:
    return cost.gpu_s if kind == "gpu" else cost.core_s


def _per_point_s(points: Sequence[PointState], kind: str) -> float | None:
    """What a point costs on average, in device seconds; None if no point has got anywhere on such devices."""
    known = [
        (_of(point.cost, kind), point.progress)
        for point in points
        if point.state not in ("diverged", "failed") and point.progress and _of(point.cost, kind)
    ]
    return math.fsum(cost for cost, _ in known) / math.fsum(progress for _, progress in known) if known else None


def _left_s(point: PointState, kind: str, per_point_s: float) -> float:
    """The device seconds that a point still needs, at its own speed if it has begun."""
    cost_s, progress = _of(point.cost, kind), point.progress or 0.0
    return (1 - progress) * (cost_s / progress if cost_s and progress else per_point_s)


def described(forecast: Forecast, now: float | None = None) -> list[str]:
    """A line on the speed and the expected end, and one on the device hours, as far as they are known."""
    lines = []
    if forecast.points_per_h is not None and forecast.left_s is not None:
        end = _end(forecast.left_s, time.time() if now is None else now)
        lines.append(f"{_number(forecast.points_per_h)} points an hour; expected end: {end}")
    if forecast.used_s or not forecast.is_whole:
        what = "GPU hours" if forecast.kind == "gpu" else "CPU core hours"
        used = f"{'' if forecast.is_whole else 'at least '}{_number(forecast.used_s / _S_PER_H)} used"
        expected = "" if forecast.expected_s is None else f", {_number(forecast.expected_s / _S_PER_H)} expected"
        lines.append(f"{what}: {used}{expected}")
    return lines


def _number(value: float) -> str:
    if value < 0.01:
        return "under 0.01"
    return f"{value:.2f}" if value < 0.995 else f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def _end(left_s: float, now: float) -> str:
    """`14:32 (in 25 min)`, with the date unless it is today."""
    minutes = max(1, round(left_s / 60))
    hours, days = round(left_s / _S_PER_H), round(left_s / _S_PER_H / 24)
    span = f"{minutes} min" if minutes < 120 else f"{hours} h" if hours < 48 else f"{days} days"
    if days > 3650:
        return "in more than ten years"
    end, today = time.localtime(now + left_s), time.localtime(now)
    is_today = (end.tm_year, end.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M", end) + f" (in {span})"
