"""How times grow with K, the latent size, the images' size and their number: `python -m benchmarks.growth`.

The slope p is that of time ~ size ** p: 1 where twice the size takes twice as long, less where a part does not grow.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.cases import Case, images_of, specification
from benchmarks.main_job import timed
from benchmarks.processes import Processes

MLP = ("arch.hidden=[100,100]", "batch_size=64")
CONV = ("arch=conv", "batch_size=16", "likelihood=gaussian", "likelihood.sigma=1")


def steps(cases: Mapping[int, tuple[Case, int]], num_rounds: int, seconds: float) -> list[list[float]]:
    """ms of a step of all K points, of each size and round: the sizes' cases, and how many points train together."""
    times: dict[int, list[float]] = {size: [] for size in cases}
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        running: dict[int, Processes] = {}
        for size, (case, _) in cases.items():
            file = Path(place, f"{size}.npy")
            np.save(file, images_of(case))
            running[size] = stack.enter_context(Processes(specification(case, file)))
        for number in range(num_rounds + 1):
            for size, (_, k) in cases.items():
                ms = k * running[size].ask("pack", k, do="turn", seconds=seconds)["ms"]
                times[size] += [ms] if number else []  # the first warms up
    return list(times.values())


def sweeps(sizes: Sequence[int]) -> list[list[float]]:
    """Seconds of a command that trains one small point for an epoch on so many images of 28 x 28, for each size."""
    times = []
    for number, size in enumerate([sizes[0], *sizes]):
        with tempfile.TemporaryDirectory() as place:
            images = np.random.default_rng(0).integers(0, 256, (size, 28, 28), dtype=np.uint8)
            np.save(Path(place, "images.npy"), images)
            data = ["data=numpy", f"data.path={place}/images.npy", f"output_dir={place}/out"]
            small = ["arch.hidden=[100,100]", "epochs=1", "batch_size=500", "evaluation=none", "tracker=none"]
            seconds, _ = timed([sys.executable, "launch.py", *data, *small])
            times += [[seconds]] if number else []  # the first warms up
    return times


def measure(num_rounds: int = 3, seconds: float = 0.3) -> list[dict[str, Any]]:
    """All four; `benchmarks.tables.growth` shows what it returns."""
    mlp = Case("mlp", (*MLP, "latent=10"), num_images=54 * 64)
    of_latent = {n: (Case("mlp", (*MLP, f"latent={n}"), num_images=54 * 64), 9) for n in (2, 8, 32, 128)}
    of_side = {n: (Case("conv", CONV, side=n, num_images=64), 1) for n in (16, 32, 64, 128)}
    of_k, numbers = {k: (mlp, k) for k in (1, 3, 9, 27)}, (5_000, 20_000, 80_000)
    kinds = [("points in a pack, 784-100-100-10", of_k), ("latents, a pack of nine", of_latent)]
    kinds.append(("pixels on a side, arch=conv, batch 16", of_side))
    rows = [
        {"what": what, "unit": "ms", "sizes": list(cases), "times": steps(cases, num_rounds, seconds)}
        for what, cases in kinds
    ]
    what = "images, a command that trains an epoch"
    return [*rows, {"what": what, "unit": "s", "sizes": list(numbers), "times": sweeps(numbers)}]


def main() -> None:
    print(tables.markdown(tables.growth(measure()), 2))


if __name__ == "__main__":
    main()
