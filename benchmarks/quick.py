"""Whether training has become slower: `python -m benchmarks.quick`, which `make bench-quick` runs.

Packs of one and of nine train in turn with the tight loop, on one CPU, so that other programs on the machine
disturb them less. The figure is how many times as fast as the tight loop a point is, by the tenth of the steps that are
the fastest in each turn. It fails if the median over the rounds, with its error, is below the floor in floors.json; or
if the geometric mean of all, with its smaller error, is below that of the floors.
`--set-floors` writes these: 0.93 of what it measures. Floors hold for one kind of processor and version of torch.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks import rounds
from benchmarks.cases import CASES, Case, images_of, specification
from benchmarks.processes import Processes
from vae_sweeps.system.usage import device_name

FLOORS = Path(__file__).parent / "floors.json"
ROUNDS, SECONDS_PER_TURN, SHARE = 16, 0.12, 0.93
SIZES = (1, 9)


@dataclass(frozen=True)
class Speed:
    """How many times as fast as the tight loop K points are, each; `error` is two standard errors of the median."""

    name: str
    k: int
    speed: float
    error: float


def median_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The median, and twice its standard error, from the median absolute deviation as for normal values."""
    middle = statistics.median(values)
    deviation = 1.4826 * statistics.median(abs(value - middle) for value in values)
    return middle, 2 * 1.2533 * deviation / math.sqrt(len(values))


def measure(case: Case) -> list[Speed]:
    """The speeds of packs on one network."""
    times: dict[tuple[str, int], list[float]] = {("tight", 1): [], **{("pack", k): [] for k in SIZES}}
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "images.npy")
        np.save(file, images_of(case))
        with Processes(specification(case, file)) as processes:
            for number in range(ROUNDS + 1):
                for (name, k), values in times.items():
                    ms = processes.ask(name, k, do="turn", seconds=SECONDS_PER_TURN)["fast_ms"]
                    values += [ms] if number else []  # the first warms up
    speeds = {k: rounds.ratios(times["tight", 1], times["pack", k]) for k in SIZES}
    return [Speed(case.name, k, *median_and_error(values)) for k, values in speeds.items()]


def together(speeds: Sequence[Speed], floors: Mapping[str, float]) -> tuple[float, float]:
    """The geometric mean of the speeds in units of their floors, and its error."""
    logs = [math.log(speed.speed / floors[f"{speed.name}, K = {speed.k}"]) for speed in speeds]
    mean = math.exp(statistics.mean(logs))
    return mean, mean * math.hypot(*(speed.error / speed.speed for speed in speeds)) / len(speeds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set-floors", action="store_true", help="write the floors of this processor")
    is_set = parser.parse_args().set_floors
    processor, floors_of = device_name(torch.device("cpu")), json.loads(FLOORS.read_text())
    if not is_set and processor not in floors_of:
        sys.exit(f"{FLOORS.name} has no floors for {processor}; set them on code known to be fast: --set-floors")
    os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])  # of the processes that it starts, too
    speeds = [speed for case in CASES[:2] for speed in measure(case)]
    if is_set:
        floors_of[processor] = {f"{speed.name}, K = {speed.k}": round(SHARE * speed.speed, 3) for speed in speeds}
        FLOORS.write_text(json.dumps(floors_of, indent=1) + "\n")
    floors = floors_of[processor]
    of_floor, error = together(speeds, floors)
    all_speeds = [*speeds, Speed("all together, of their floors", 0, of_floor, error)]
    num_slow = 0
    for speed in all_speeds:
        label = f"{speed.name}, K = {speed.k}" if speed.k else speed.name
        floor = floors.get(label, 1.0)
        is_slow = speed.speed + speed.error < floor
        num_slow += is_slow
        print(f"{label}: {speed.speed:.3f} +- {speed.error:.3f}, floor {floor:.3f}: {'SLOWER' if is_slow else 'ok'}")
    return min(1, num_slow)


if __name__ == "__main__":
    sys.exit(main())
