"""Checkpoints of a point's training; the previous one is kept in case the newest is damaged.

The tensors are those of a VAE of one model, so a checkpoint does not depend on the pack that wrote it.
"""

import logging
import os
import pickle
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system.logs import first_line

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to resume training after `step` steps; noise and batches are functions of the step.

    `model` holds parameters and buffers by name; `exp_avg` and `exp_avg_sq` are Adam's moments by parameter name.
    `trace` [n,3] holds, for each step since the last logged row, the batch's sums of log_px and kl, and the loss.
    `time_s` is the point's share of the training time so far. `image_shape` is (C,H,W), so that the model can be
    rebuilt without the data.
    """

    step: int
    model: dict[str, Tensor]
    exp_avg: dict[str, Tensor]
    exp_avg_sq: dict[str, Tensor]
    trace: Tensor
    time_s: float
    image_shape: tuple[int, int, int]


def save(run: RunFolder, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` into the run's folder; a kill at any moment leaves an intact one behind."""
    newest, unfinished = run.checkpoint, run.unfinished_checkpoint
    with unfinished.open("wb") as file:
        torch.save(vars(checkpoint), file)
        file.flush()
        os.fsync(file.fileno())
    if newest.exists():
        os.replace(newest, run.previous_checkpoint)
    os.replace(unfinished, newest)


def _read(path: Path) -> Checkpoint | None:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if set(content) != {f.name for f in fields(Checkpoint)}:
            raise ValueError("written by another version")
        return Checkpoint(**content)
    except FileNotFoundError:
        return None
    except (RuntimeError, OSError, EOFError, ValueError, TypeError, pickle.UnpicklingError) as error:
        log.warning("%s: damaged checkpoint, not used (%s)", path, first_line(error))
        return None


def available(run: RunFolder) -> list[Checkpoint]:
    """The run's intact checkpoints, newest first: none, one or two. Damaged ones are reported in the log."""
    return [c for path in (run.checkpoint, run.previous_checkpoint) if (c := _read(path)) is not None]


def common_step(choices: list[list[Checkpoint]]) -> int | None:
    """The latest step for which every point has a checkpoint (0 is the start); None if there is no such step."""
    steps = [{c.step for c in checkpoints} or {0} for checkpoints in choices]
    return max(set.intersection(*steps), default=None)
