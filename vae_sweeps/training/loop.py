"""The only training loop: a pack in, finished points out."""

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
from vae_sweeps.system import distributed
from vae_sweeps.training import objective
from vae_sweeps.training.noise import PosteriorNoise
from vae_sweeps.training.pack import Outcome, Pack
from vae_sweeps.training.schedule import Schedule


@dataclass(frozen=True)
class TrainOptions:
    """When to save, and when to end before the last step; neither changes a number."""

    checkpoint_every_s: float = math.inf
    should_stop: Callable[[], bool] = lambda: False


class Observer(Protocol):
    """What is told of a training as it goes. It must leave the pack as it is."""

    def saved(self, step: int) -> None:
        """All living points have a checkpoint at `step`, before the first step that of their start.

        Rows up to there are never dropped and written again, unless a checkpoint is damaged.
        """

    def logged(self, step: int, trace: Tensor) -> None:
        """Rows are due after `step` steps; `trace` [n,3,K] holds the steps since the last ones, as in `Checkpoint`."""


class NoObserver:
    """Writes and shows nothing, as on ranks other than the main one."""

    def saved(self, step: int) -> None:
        pass

    def logged(self, step: int, trace: Tensor) -> None:
        pass


def train(pack: Pack, dataset: Dataset, options: TrainOptions, observer: Observer) -> list[Outcome]:
    """Train the pack's points together, and save checkpoints into their folders.

    Ends after the last step, or, with everything saved, after the step during which `should_stop` became true.
    `pack.vae` is left with the trained weights of all points.
    """
    first, device, dtype = pack.points[0], pack.device, pack.dtype
    schedule = Schedule(first, dataset.num_images("train"))
    batches = Batches(dataset, first.batch_size, dtype)
    noise = PosteriorNoise(
        [p.seed for p in pack.points], [p.latent for p in pack.points], first.batch_size, device, dtype
    )
    weights = objective.weights(pack.points, dataset.image_shape, schedule.steps_per_epoch, device, dtype)
    parameters = list(pack.vae.parameters())
    ones = torch.ones(len(pack.points), device=device, dtype=dtype)  # the models' losses are independent
    step, saved_at = pack.step, time.monotonic()
    is_stopped, agree = False, distributed.Agreement()
    observer.saved(step)

    pack.vae.train()
    while step < schedule.num_steps and pack.living and not is_stopped:
        pack.set_learning_rate(schedule.learning_rate(step))
        x = batches(step)
        num_images, own = len(x), distributed.share(len(x))
        pack.set_batch_size(num_images)
        with computing(first.precision, device):
            terms = elbo_terms(pack.vae, x[own], noise(step)[:, :num_images][:, own])
            loss = weights.loss(terms, step, num_images)
            pack.optimiser.zero_grad()
            loss.backward(ones)
        distributed.add_gradients(parameters)
        if first.optim.clip_norm is not None:
            pack.clip_gradients(first.optim.clip_norm)
        pack.optimiser.step()
        with torch.no_grad():
            pack.trace.append(torch.stack((terms.log_px.sum(1), terms.kl.sum(1), loss)))
        step += 1

        if schedule.wants_row(step):
            observer.logged(step, pack.take_trace(step))
        is_time = distributed.is_main() and time.monotonic() - saved_at >= options.checkpoint_every_s
        is_stopped, is_to_be_saved = agree(options.should_stop(), is_time)
        if step == schedule.num_steps or is_stopped or is_to_be_saved:
            pack.save(step)
            observer.saved(step)
            saved_at = time.monotonic()

    agree.settle()
    return pack.outcomes(step, schedule.num_steps)
