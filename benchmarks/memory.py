"""Memory of a run on many image files: the peak of each stage, without the page cache.

    python -m benchmarks.memory [--num 200000] [--size 64]

Writes JPEGs into the folder for temporary files (1 GB, and 2.5 GB of decoded images), decodes them, trains a few
steps, and computes each part of the evaluation in turn. It measures RssAnon from /proc, of this process and, during
decoding, of its children, so it needs Linux.
"""

import argparse
import os

from vae_sweeps.system import before_torch

before_torch.prepare()

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vae_sweeps.config.compose import compose_command
from vae_sweeps.data.load import load_dataset
from vae_sweeps.evaluation.evaluate import evaluate_parts
from vae_sweeps.evaluation.features.base import build_features
from vae_sweeps.evaluation.model import from_state
from vae_sweeps.evaluation.reference import Reference
from vae_sweeps.evaluation.settings import settings
from vae_sweeps.runs.run import Run
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import machine
from vae_sweeps.training.loop import TrainOptions, train
from vae_sweeps.training.pack import Pack, new_start
from vae_sweeps.training.rows import RowWriter

CPU = torch.device("cpu")
NUM_STEPS, BATCH_SIZE = 50, 128


def anonymous_mb() -> float:
    """The anonymous memory of this process and its children, in MB."""
    total = 0.0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except OSError:  # the process has ended
            continue
        if os.getpid() in (int(fields["Pid"]), int(fields["PPid"])) and "RssAnon" in fields:
            total += int(fields["RssAnon"].split()[0]) / 1024
    return total


class Peak:
    """The largest `anonymous_mb`, sampled every 20 ms, since the last `take`."""

    def __init__(self) -> None:
        self._peak = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self._peak = max(self._peak, anonymous_mb())
            time.sleep(0.02)

    def take(self) -> float:
        peak, self._peak = self._peak, anonymous_mb()
        return max(peak, self._peak)


def write_images(folder: Path, num: int, size: int) -> None:
    """Write `num` JPEGs of coloured noise in 8 x 8 blocks, in two classes."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    for i in range(num):
        blocks = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        blocks.resize((size, size)).save(folder / "ab"[i % 2] / f"{i}.jpg", quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory of a run on many image files, stage by stage.")
    parser.add_argument("--num", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=64)
    arguments = parser.parse_args()
    logging.disable()
    machine.prepare()
    table = Table(title=f"{arguments.num:,} images of {arguments.size}x{arguments.size}", title_justify="left")
    for column in ("stage", "peak MB", "seconds"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    peak = Peak()
    table.add_row("imports", f"{anonymous_mb():.0f}", "")

    def stage(name: str, work: Callable[[], Any]) -> Any:
        peak.take()
        began = time.perf_counter()
        result = work()
        table.add_row(name, f"{peak.take():.0f}", f"{time.perf_counter() - began:.0f}")
        return result

    with tempfile.TemporaryDirectory() as place:
        os.environ["XDG_CACHE_HOME"] = place
        files, folder = Path(place, "files"), RunFolder(Path(place, "run"))
        folder.path.mkdir()
        write_images(files, arguments.num, arguments.size)
        data = ["data=image_folder", f"data.root={files}", f"data.size={arguments.size}"]
        small = ["arch.hidden=[100,100]", "likelihood=gaussian", f"batch_size={BATCH_SIZE}"]
        point, options = compose_command([*data, *small, "evaluation=fast"])
        dataset = stage("decoding, processes included", lambda: load_dataset(point.data))
        start, steps, evaluation = new_start(point, dataset.image_shape), iter(range(NUM_STEPS)), options.evaluation

        def training() -> dict[str, Tensor]:
            """Train, and return the model's tensors."""
            pack = Pack([Run(point, folder, start)], dataset.image_shape, CPU)
            should_stop = TrainOptions(should_stop=lambda: next(steps, None) is None)
            with machine.memory_kept(CPU):
                train(pack, dataset, should_stop, RowWriter(pack, dataset, evaluation))
            return pack.model_state(0)

        state = stage(f"{NUM_STEPS} steps of {BATCH_SIZE}", training)
        reference = Reference(dataset, evaluation, build_features(evaluation.features, dataset), CPU)
        model = from_state(point, state, dataset.image_shape)
        for part in settings(evaluation):
            evaluated, _ = stage(f"evaluation: {part}", partial(evaluate_parts, model, reference, "run", [part]))
            assert part in evaluated["evaluated"], evaluated["missing"]
    Console(width=80).print(table)


if __name__ == "__main__":
    main()
