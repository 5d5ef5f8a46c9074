"""Training small packs as a job does, with rows, checkpoints and pictures but without curves, and comparing them."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from tests.conftest import make_dataset, make_options
from tests.helpers.checkpoints import tensors_of
from tests.helpers.training import CPU, runs_of
from vae_sweeps.config.schema import Point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.model import Model
from vae_sweeps.evaluation.reference import Reference
from vae_sweeps.launch.draw import PictureDrawer
from vae_sweeps.launch.observe import JobObserver
from vae_sweeps.launch.record import record
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.checkpoint import Checkpoint
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.tracker.link import Link
from vae_sweeps.training.loop import TrainOptions, train
from vae_sweeps.training.pack import Outcome, Pack

EVALUATION = make_options().evaluation
DATASET = make_dataset()  # 70 training images of 8x8
STEPS_PER_EPOCH = 5  # of 16 images
SMALL = ["arch.hidden=[9]", "batch_size=16", "log_every_steps=3"]
CONV_BN = ["arch=conv", "arch.channels=[4,6]", "arch.batch_norm=true", "arch.kernel=3", "batch_size=16"]


class NoPictures(PictureDrawer):
    """Drawing takes most of the time of such short runs."""

    def end_of_training(self, run: RunFolder, model: Model, dataset: Dataset) -> None:
        pass


def train_pack(
    points: Sequence[Point],
    folders: Sequence[RunFolder],
    starts: Sequence[Checkpoint] = (),
    *,
    drawer: PictureDrawer | None = None,
    link: Link | None = None,
    **options: Any,
) -> list[Outcome]:
    """Train, draw and record as a job does."""
    reference, drawer = Reference(DATASET, EVALUATION, None, CPU), drawer or PictureDrawer()
    pack = Pack(runs_of(points, folders, DATASET, starts), DATASET.image_shape, CPU)
    observer = JobObserver(pack, DATASET, EVALUATION, drawer=drawer, link=link or Link(), show=lambda progress: None)
    outcomes = train(pack, DATASET, TrainOptions(**options), observer)
    record(pack, outcomes, reference, drawer)
    return outcomes


def slow(*values: object) -> list[Any]:
    """Parameters for the slow suite."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def stop_after(num_steps: int) -> Callable[[], bool]:
    """For `should_stop`: true at the end of step `num_steps`."""
    steps = iter(range(1, num_steps + 1))
    return lambda: next(steps) == num_steps


def timeless(folder: RunFolder) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows and the result, as they are written, without values that depend on the clock or the folder's name."""
    clock = {"time_s", "core_s", "images_per_s", "finished_at", "evaluated", "rows", "run_id", "sha256"}
    rows = [{k: v for k, v in row.items() if k not in clock} for row in folder.read_rows()]
    return rows, {k: v for k, v in json.loads(folder.result.read_text()).items() if k not in clock}


def assert_same(folders: Sequence[RunFolder], others: Sequence[RunFolder]) -> None:
    for folder, other in zip(folders, others, strict=True):
        assert timeless(folder) == timeless(other)
        (a, *_), (b, *_) = checkpoint.available(folder), checkpoint.available(other)
        assert all(torch.equal(tensor, tensors_of(b)[name]) for name, tensor in tensors_of(a).items())
