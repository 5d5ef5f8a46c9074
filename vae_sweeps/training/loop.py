"""The only training loop: trains the points of a pack together."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from vae_sweeps.data.dataset import Dataset
from vae_sweeps.runs.rungs import Rung
from vae_sweeps.system import distributed, machine
from vae_sweeps.training.graphs import new_steps
from vae_sweeps.training.pack import Outcome, Pack
from vae_sweeps.training.schedule import Schedule
from vae_sweeps.training.steps import Steps


@dataclass(frozen=True)
class TrainOptions:
    """When to save checkpoints and when to stop early, and whether to try a step first; none changes the results.

    `rung` is the epoch after which training pauses, before its last step. `graphs` is auto or off, see `graphs`.
    """

    checkpoint_every_s: float = math.inf
    should_stop: Callable[[], bool] = lambda: False
    is_tried: bool = False
    rung: Rung | None = None
    graphs: str = "auto"


class Observer(Protocol):
    """Receives events during training. It must not modify the pack."""

    def saved(self, step: int) -> None:
        """Called when all living points have a checkpoint at `step`, and once at the start, with the starting step.

        Rows up to `step` are final: they are written again only if a checkpoint is damaged.
        """

    def logged(self, step: int, trace: Tensor) -> None:
        """Called when rows are due after `step` steps; `trace` [n,3,K] has the steps since the last ones."""


class NoObserver:
    """An observer that does nothing, for ranks other than the main one."""

    def saved(self, step: int) -> None:
        pass

    def logged(self, step: int, trace: Tensor) -> None:
        pass


@machine.denormals_flushed()
def train(pack: Pack, dataset: Dataset, options: TrainOptions, observer: Observer) -> list[Outcome]:
    """Train the pack's points together, and save checkpoints into their folders.

    Ends after the last step, at the rung, or after the step during which `should_stop` became true; checkpoints are
    saved in any case. `pack.vae` then holds the trained weights of all points. With `is_tried`, a pack that takes too
    much memory raises before it is trained, rather than when it first saves.
    """
    schedule = Schedule(pack.points[0], dataset.num_images("train"))
    steps = new_steps(pack, dataset, schedule, options.graphs)
    rung = options.rung
    end = schedule.num_steps if rung is None else min(schedule.num_steps, rung.epochs * schedule.steps_per_epoch)
    step, saved_at = pack.step, time.monotonic()
    is_stopped, agree = False, distributed.Agreement()
    observer.saved(step)

    pack.vae.train()
    if options.is_tried and step < end:
        _try(pack, steps)
    while step < end and pack.living and not is_stopped:
        steps(step)
        step += 1

        if schedule.wants_row(step):
            observer.logged(step, pack.take_trace(step))
        is_save_due = distributed.is_main() and time.monotonic() - saved_at >= options.checkpoint_every_s
        is_stopped, must_save = agree(options.should_stop(), is_save_due)
        if step == end or is_stopped or must_save:
            pack.save(step)
            observer.saved(step)
            saved_at = time.monotonic()

    agree.settle()
    ends_at_rung = rung is not None and rung.is_end and step >= end
    return pack.outcomes(step, schedule.num_steps, ended="stopped" if ends_at_rung else "preempted")


def _try(pack: Pack, steps: Steps) -> None:
    """Take the memory of a step and of a checkpoint, and give it back. The pack stays what it was."""
    buffers = [buffer.clone() for buffer in pack.vae.buffers()]  # batch normalisation counts every batch
    sums = steps.gradients(pack.step)
    for k in pack.living[:1]:
        pack.checkpoint(k, pack.step, sums[None].cpu())
    pack.vae.zero_grad()
    for buffer, before in zip(pack.vae.buffers(), buffers, strict=True):
        buffer.copy_(before)
