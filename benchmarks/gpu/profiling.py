"""Where the time of a pack's steps goes, by PyTorch's profiler.

What it is told: the specification of a `case`, the number `k` of points, and the `seconds` of a turn.
"""

import logging
from collections.abc import Iterable
from typing import Any

from vae_sweeps.system import before_torch

before_torch.prepare()

import numpy as np
import torch

from benchmarks.gpu import scripts
from benchmarks.peers import pack
from benchmarks.peers.serving import seconds_per_step
from vae_sweeps.system import machine

NUM_ROWS = 15
_FEWEST, _MOST = 3, 50  # steps under the profiler


def measure(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The profile of steps and, on a GPU, that of steps without CUDA graphs, whose kernels belong to no operation."""
    case, found = asked["case"], list[dict[str, Any]]()
    images = np.load(case["images"])
    for graphs in ("auto", "off") if case["device"] == "cuda" else ("off",):
        points = pack.Points(case, images, asked["k"], graphs=graphs)
        found.append({"graphs": graphs} | _profile(asked, points))
    return found


def _profile(asked: dict[str, Any], points: pack.Points) -> dict[str, Any]:
    """The operations and, on a GPU, the kernels of a step that take the most time, in ms.

    `ms_per_step` is that of all K points without the profiler, which slows down what is not computed on the device.
    `device_ms_per_step` is how long the device computed or copied, and `busy_share` its share of `ms_per_step`.
    A graph with many kernels is one launch.
    """
    on_gpu = asked["case"]["device"] == "cuda"
    points.run(5)
    seconds = seconds_per_step(points.run, asked["seconds"])
    num_steps = max(_FEWEST, min(_MOST, round(asked["seconds"] / seconds)))
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if on_gpu else [])]
    profiler = torch.profiler.profile(activities=kinds)
    points.run(num_steps, begin=profiler.start, end=profiler.stop)
    averages = list(profiler.key_averages())
    operations = [average for average in averages if average.device_type.name == "CPU"]
    found: dict[str, Any] = {
        "ms_per_step": 1e3 * seconds,
        "num_steps": num_steps,
        "operations": _rows(operations, "self_device_time_total" if on_gpu else "self_cpu_time_total", num_steps),
        "kernels": [],
        "kernels_per_step": None,
        "launches_per_step": None,
        "copies_per_step": None,
        "device_ms_per_step": None,
        "busy_share": None,
    }
    if not on_gpu:
        return found
    of_device = [event for event in profiler.events() or [] if _is_of_gpu(event)]
    num_copies = sum(event.name.startswith(("Memcpy", "Memset")) for event in of_device)
    busy_ms = 1e-3 * covered((event.time_range.start, event.time_range.end) for event in of_device) / num_steps
    kernels = [average for average in averages if _is_of_gpu(average)]
    return found | {
        "kernels": _rows(kernels, "self_device_time_total", num_steps),
        "kernels_per_step": (len(of_device) - num_copies) / num_steps,
        "launches_per_step": sum(average.count for average in operations if _is_launch(average.key)) / num_steps,
        "copies_per_step": num_copies / num_steps,
        "device_ms_per_step": busy_ms,
        "busy_share": busy_ms / (1e3 * seconds),
    }


def _is_launch(name: str) -> bool:
    """Whether this function of CUDA starts a kernel or a graph."""
    return name.startswith(("cudaLaunch", "cuLaunch", "cudaGraphLaunch", "cuGraphLaunch"))


def _is_of_gpu(event: Any) -> bool:
    """Whether a kernel or a copy ran on the GPU; the times of annotated blocks are there too, and would count twice."""
    return event.device_type.name == "CUDA" and not event.is_user_annotation


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """The length of the union of intervals: kernels of several streams may overlap."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def _rows(averages: list[Any], attribute: str, num_steps: int) -> list[dict[str, Any]]:
    """The averages of the profiler with the largest times, which it has in microseconds."""
    whole = sum(getattr(average, attribute) for average in averages)
    largest = sorted(averages, key=lambda average: getattr(average, attribute), reverse=True)[:NUM_ROWS]
    return [
        {
            "name": average.key,
            "ms_per_step": 1e-3 * getattr(average, attribute) / num_steps,
            "share": getattr(average, attribute) / whole if whole else 0.0,
            "calls_per_step": average.count / num_steps,
        }
        for average in largest
        if getattr(average, attribute)
    ]


if __name__ == "__main__":
    logging.disable()
    machine.prepare()
    scripts.answer(measure)
