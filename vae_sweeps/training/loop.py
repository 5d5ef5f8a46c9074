"""The only training loop: trains the points of a pack together."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vae_sweeps.data.batches import Batches
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.models.precision import computing
from vae_sweeps.models.vae import elbo_terms
from vae_sweeps.runs.rungs import Rung
from vae_sweeps.system import distributed, machine
from vae_sweeps.training import objective
from vae_sweeps.training.noise import PosteriorNoise
from vae_sweeps.training.pack import Outcome, Pack
from vae_sweeps.training.schedule import Schedule


@dataclass(frozen=True)
class TrainOptions:
    """When to save checkpoints and when to stop early, and whether to try a step first; none changes the results.

    `rung` is the epoch after which training pauses, before its last step.
    """

    checkpoint_every_s: float = math.inf
    should_stop: Callable[[], bool] = lambda: False
    is_tried: bool = False
    rung: Rung | None = None


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
    first, device, dtype = pack.points[0], pack.device, pack.dtype
    schedule = Schedule(first, dataset.num_images("train"))
    batches = Batches(dataset, first.batch_size, dtype)
    noise = PosteriorNoise(
        [p.seed for p in pack.points], [p.latent for p in pack.points], first.batch_size, device, dtype
    )
    weights = objective.weights(
        pack.points, dataset.image_shape, schedule.steps_per_epoch, device, dtype, schedule.num_steps
    )
    parameters = list(pack.vae.parameters())
    rung = options.rung
    end = schedule.num_steps if rung is None else min(schedule.num_steps, rung.epochs * schedule.steps_per_epoch)
    step, saved_at = pack.step, time.monotonic()
    is_stopped, agree = False, distributed.Agreement()
    observer.saved(step)

    def gradients(step: int) -> Tensor:
        """Compute the gradients of a step; returns the batch's sums of log_px and kl, and the loss, [3,K]."""
        x = batches(step)
        num_images, share = len(x), distributed.share(len(x))
        pack.begin_step(step, num_images)
        with computing(first.precision, device):
            terms = elbo_terms(pack.vae, x[share], noise(step)[:, :num_images][:, share])
            loss = weights.loss(terms, step, num_images)
            for parameter in parameters:
                parameter.grad = None
            loss.sum().backward()  # the models' losses are independent
        with torch.no_grad():
            return torch.stack((terms.log_px.sum(1), terms.kl.sum(1), loss))

    pack.vae.train()
    if options.is_tried and step < end:
        _try(pack, gradients)
    while step < end and pack.living and not is_stopped:
        sums = gradients(step)
        distributed.add_gradients(parameters)
        pack.clip_gradients()
        pack.optimiser.step(schedule.learning_rates(pack.points, step))
        pack.trace.append(sums)
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


def _try(pack: Pack, gradients: Callable[[int], Tensor]) -> None:
    """Take the memory of a step and of a checkpoint, and give it back. The pack stays what it was."""
    buffers = [buffer.clone() for buffer in pack.vae.buffers()]  # batch normalisation counts every batch
    sums = gradients(pack.step)
    for k in pack.living[:1]:
        pack.checkpoint(k, pack.step, sums[None].cpu())
    pack.vae.zero_grad()
    for buffer, before in zip(pack.vae.buffers(), buffers, strict=True):
        buffer.copy_(before)
