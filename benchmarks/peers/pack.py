"""vae_sweeps itself: a pack of K points in its own training loop."""

import contextlib
import gc
import itertools
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
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
from benchmarks.peers.torch_device import memory_of, waiting_for
from vae_sweeps.config.compose import compose_command
from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.models.build import build_vae
from vae_sweeps.runs.row_log import RowLog
from vae_sweeps.runs.run import Run
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import machine
from vae_sweeps.training.loop import TrainOptions, train
from vae_sweeps.training.pack import Pack, new_start
from vae_sweeps.training.rows import RowWriter

# The steps of a run that are not counted. The first one builds what later ones use. On a GPU three steps warm up, the
# fourth is captured as a graph and checked, and later ones replay it.
_NUM_UNTIMED_ON_GPU = 5
# At most so many points draw weights of their own; the others begin with the same ones, which takes no time.
_NUM_DRAWN = 32


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
    """K points that differ in their seed, with `num_rates` learning rates; equal ones are neighbours.

    `graphs` is auto or off: whether steps become CUDA graphs on a GPU.
    """

    def __init__(
        self, case: dict[str, Any], images: np.ndarray, k: int, num_rates: int = 1, graphs: str = "auto"
    ) -> None:
        self._graphs, self._num_untimed = graphs, 1 if case["device"] == "cpu" else _NUM_UNTIMED_ON_GPU
        overrides = [*case["overrides"], f"precision={case['precision']}", "steps=1000000"]
        point, options = compose_command(overrides)
        rates = [case["lr"] / (1 + i * num_rates // k) for i in range(k)]
        optims = [replace(point.optim, lr=rate) for rate in rates]
        self._points = [replace(point, seed=seed, optim=optim) for seed, optim in enumerate(optims)]
        self._evaluation = options.evaluation
        self._device, self._wait = torch.device(case["device"]), waiting_for(case)
        self._constant, self._batch_size = case["constant"], case["batch_size"]
        train_images = torch.from_numpy(images)
        splits = {"train": train_images, "val": train_images[:1], "test": train_images[:1]}
        dataset = Dataset("benchmark", splits, None, "", pixel_range=tuple(case["pixel_range"]))
        self._dataset = dataset.to(self._device)
        self._folder = RunFolder(Path(tempfile.mkdtemp(dir=Path(case["images"]).parent)))  # which the asker removes
        self._pack: Pack | None = None  # of runs of steps, which go on with its weights
        one = build_vae(self._points[:1], self._dataset.image_shape)
        self.num_params = sum(p.numel() for p in one.parameters())

    def _new_pack(self) -> Pack:
        drawn = [new_start(point, self._dataset.image_shape) for point in self._points[:_NUM_DRAWN]]
        starts = [drawn[i % len(drawn)] for i in range(len(self._points))]
        rows = RowLog(self._folder, starts[0].rows)  # of all points, which nobody reads
        runs = [Run(*of, rows) for of in zip(self._points, repeat(self._folder), starts)]
        return Pack(runs, self._dataset.image_shape, self._device)

    def _train(self, pack: Pack, after_step: Callable[[], None]) -> list[float]:
        """Train until `after_step` raises _Over; returns the steps' ELBOs in logged rows."""
        observer = _Losses(pack, self._dataset, self._evaluation)

        def should_stop() -> bool:
            after_step()
            return False

        with contextlib.suppress(_Over):
            train(pack, self._dataset, TrainOptions(should_stop=should_stop, graphs=self._graphs), observer)
        return observer.elbos

    def _train_new(self, seconds: float, num_steps: int) -> tuple[list[float], list[float]]:
        """Train new weights until both are reached; returns the times after the steps, and their ELBOs."""
        marks: list[float] = []

        def note() -> None:
            marks.append(time.perf_counter())
            if len(marks) >= max(2, num_steps) and marks[-1] - marks[0] >= seconds:
                raise _Over

        elbos = self._train(self._new_pack(), note)
        return marks, elbos

    def learn(self, num_steps: int) -> Sequence[float]:
        _, elbos = self._train_new(0.0, num_steps)
        gc.collect()  # that pack is part of a cycle of references, and would count as memory of the next one
        return [self._constant - elbo / self._batch_size for elbo in elbos[:num_steps]]

    def turn(self, seconds: float) -> Sequence[float]:
        """The first step, which builds what later ones use, is not counted."""
        marks, _ = self._train_new(seconds, 0)
        return [b - a for a, b in itertools.pairwise(marks)]

    def run(
        self, num_steps: int, begin: Callable[[], Any] = lambda: None, end: Callable[[], Any] = lambda: None
    ) -> float:
        """The first steps are not counted; `begin` is called after them, and `end` after the last one.

        At both times the device has nothing to do.
        """
        marks: list[float] = []
        num_done = itertools.count(1 - self._num_untimed)

        def note() -> None:
            number = next(num_done)
            if number == 0:
                self._wait()
                begin()
                marks.append(time.perf_counter())
            if number == num_steps:
                self._wait()
                marks.append(time.perf_counter())
                end()
                raise _Over

        if self._pack is None:
            self._pack = self._new_pack()
        gc.collect()  # the graph of an earlier run, and its memory
        self._pack.trace = []  # the steps of an earlier run, of which there is no row
        self._train(self._pack, note)
        return (marks[1] - marks[0]) / num_steps

    def first_step(self) -> float:
        """Seconds from the creation of a pack to the end of its first step."""

        def stop() -> None:
            raise _Over

        began = time.perf_counter()
        self._train(self._new_pack(), stop)
        self._wait()
        return time.perf_counter() - began


def make(name: str, case: dict[str, Any], images: np.ndarray, k: int) -> Points:
    """`name` is pack, pack-N-rates or pack-no-graphs."""
    if name == "pack-no-graphs":
        return Points(case, images, k, graphs="off")
    _, _, rates = name.partition("-")
    return Points(case, images, k, int(rates.partition("-")[0] or 1))


if __name__ == "__main__":
    logging.disable()
    machine.prepare()
    with machine.memory_kept(torch.device("cpu")):
        serve(make, memory_of)
