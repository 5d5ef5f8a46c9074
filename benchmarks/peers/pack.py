"""vae_sweeps itself: a pack of K points in its own training loop."""

import contextlib
import itertools
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

from vae_sweeps.system import before_torch

before_torch.prepare()

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.serving import serve
from vae_sweeps.config.compose import compose_command
from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.runs.row_log import RowLog
from vae_sweeps.runs.run import Run
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import machine
from vae_sweeps.training.loop import TrainOptions, train
from vae_sweeps.training.pack import Pack, new_start
from vae_sweeps.training.rows import RowWriter


class _Over(Exception):  # noqa: N818
    """Ends a turn without the checkpoint that training would end with."""


class _Losses(RowWriter):
    """Writes rows as a launch does, and keeps the ELBO of each step's batch."""

    def __init__(self, pack: Pack, dataset: Dataset, evaluation: Evaluation) -> None:
        super().__init__(pack, dataset, evaluation)
        self.elbos: list[float] = []

    def logged(self, step: int, trace: Tensor) -> None:
        self.elbos += (trace[:, 0] - trace[:, 1]).mean(-1).tolist()
        super().logged(step, trace)


class Points:
    """K points that differ in their seed, with `num_rates` learning rates; equal ones are neighbours."""

    def __init__(self, case: dict[str, Any], images: np.ndarray, k: int, num_rates: int = 1) -> None:
        composed = [compose_command([*case["overrides"], f"seed={seed}", "steps=1000000"]) for seed in range(k)]
        rates = [case["lr"] / (1 + i * num_rates // k) for i in range(k)]
        pairs = zip(composed, rates, strict=True)
        self._points = [replace(point, optim=replace(point.optim, lr=rate)) for (point, _), rate in pairs]
        self._evaluation = composed[0][1].evaluation
        self._constant, self._batch_size = case["constant"], case["batch_size"]
        train_images = torch.from_numpy(images)
        splits = {"train": train_images, "val": train_images[:1], "test": train_images[:1]}
        self._dataset = Dataset("benchmark", splits, None, "", pixel_range=tuple(case["pixel_range"]))
        self._folder = RunFolder(Path(tempfile.mkdtemp(dir=Path(case["images"]).parent)))  # which the asker removes
        self.num_params = sum(p.numel() for p in self._new_pack().vae.parameters()) // k

    def _new_pack(self) -> Pack:
        starts = [new_start(point, self._dataset.image_shape) for point in self._points]
        rows = RowLog(self._folder, starts[0].rows)  # of all points, which nobody reads
        runs = [Run(*of, rows) for of in zip(self._points, repeat(self._folder), starts)]
        return Pack(runs, self._dataset.image_shape, torch.device("cpu"))

    def _train(self, seconds: float, num_steps: int) -> tuple[list[float], list[float]]:
        """Train until both are reached; returns the times after the steps, and the steps' ELBOs in logged rows."""
        marks: list[float] = []
        pack = self._new_pack()
        observer = _Losses(pack, self._dataset, self._evaluation)

        def is_over() -> bool:
            marks.append(time.perf_counter())
            if len(marks) >= max(2, num_steps) and marks[-1] - marks[0] >= seconds:
                raise _Over
            return False

        with contextlib.suppress(_Over):
            train(pack, self._dataset, TrainOptions(should_stop=is_over), observer)
        return marks, observer.elbos

    def learn(self, num_steps: int) -> Sequence[float]:
        _, elbos = self._train(0.0, num_steps)
        return [self._constant - elbo / self._batch_size for elbo in elbos[:num_steps]]

    def turn(self, seconds: float) -> Sequence[float]:
        """The first step, which builds what later ones use, is not counted."""
        marks, _ = self._train(seconds, 0)
        return [b - a for a, b in itertools.pairwise(marks)]


def make(name: str, case: dict[str, Any], images: np.ndarray, k: int) -> Points:
    """`name` is pack, or pack-N-rates."""
    _, _, rates = name.partition("-")
    return Points(case, images, k, int(rates.partition("-")[0] or 1))


if __name__ == "__main__":
    logging.disable()
    machine.prepare()
    with machine.memory_kept(torch.device("cpu")):
        serve(make)
