"""Training packs of points in tests, without the job around it."""

from collections.abc import Sequence

import torch

from tests.conftest import make_options
from vae_sweeps.config.schema import Point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.checkpoint import Checkpoint
from vae_sweeps.runs.row_log import RowLog
from vae_sweeps.runs.run import Run
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.training.loop import TrainOptions, train
from vae_sweeps.training.pack import Outcome, Pack, new_start
from vae_sweeps.training.rows import RowWriter

CPU = torch.device("cpu")


def runs_of(
    points: Sequence[Point],
    folders: Sequence[RunFolder],
    dataset: Dataset,
    starts: Sequence[Checkpoint] = (),
) -> list[Run]:
    """The points as runs that start from `starts`, else from their newest checkpoints, else from scratch.

    Each has the rows that its checkpoint covers.
    """
    starts = starts or [
        next(iter(checkpoint.available(folder)), None) or new_start(point, dataset.image_shape)
        for point, folder in zip(points, folders, strict=True)
    ]
    return [
        Run(point, folder, start, RowLog(folder, start.rows))
        for point, folder, start in zip(points, folders, starts, strict=True)
    ]


def train_points(
    points: Sequence[Point],
    folders: Sequence[RunFolder],
    dataset: Dataset,
    starts: Sequence[Checkpoint] = (),
    *,
    device: torch.device = CPU,
    options: TrainOptions | None = None,
) -> tuple[Pack, list[Outcome]]:
    """Train the points as one pack and write their rows; returns the pack, with the trained weights, and outcomes."""
    pack = Pack(runs_of(points, folders, dataset, starts), dataset.image_shape, device)
    dataset = dataset.to(device)
    return pack, train(pack, dataset, options or TrainOptions(), RowWriter(pack, dataset, make_options().evaluation))
