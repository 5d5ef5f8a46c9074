"""The steps of a pack's training: gradients, their sum over the ranks, and the update."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vae_sweeps.data.batches import Batches
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.models.precision import computing
from vae_sweeps.models.vae import elbo_terms
from vae_sweeps.system import distributed
from vae_sweeps.training import objective
from vae_sweeps.training.noise import PosteriorNoise
from vae_sweeps.training.pack import Pack
from vae_sweeps.training.schedule import Schedule


class Steps:
    """`steps(step)` takes step `step` (from 0) of a pack, and adds its sums to the pack's trace."""

    def __init__(self, pack: Pack, dataset: Dataset, schedule: Schedule) -> None:
        points, device, dtype = pack.points, pack.device, pack.dtype
        self.pack, self.schedule = pack, schedule
        self.batch_size = points[0].batch_size
        self.batches = Batches(dataset, self.batch_size, dtype)
        self.noise = PosteriorNoise(
            [point.seed for point in points], [point.latent for point in points], self.batch_size, device, dtype
        )
        self.weights = objective.weights(
            points, dataset.image_shape, schedule.steps_per_epoch, device, dtype, schedule.num_steps
        )
        self.parameters = list(pack.vae.parameters())

    def __call__(self, step: int) -> None:
        sums = self.gradients(step)
        distributed.add_gradients(self.parameters)
        self.pack.clip_gradients()
        self.pack.optimiser.step(self.rates(step))
        self.pack.trace.append(sums)

    def rates(self, step: int) -> Sequence[float]:
        """The learning rate of each model."""
        return self.schedule.learning_rates(self.pack.points, step)

    def gradients(self, step: int) -> Float[Tensor, "3 K"]:
        """Compute the gradients of a step; returns the batch's sums of log_px and kl, and the loss."""
        x = self.batches(step)
        num_images, share = len(x), distributed.share(len(x))
        self.pack.begin_step(step, num_images)
        return self.gradients_of(x[share], self.noise(step)[:, :num_images][:, share], step, num_images)

    def gradients_of(
        self, x: Float[Tensor, "B C H W"], eps: Float[Tensor, "K B L"], step: int | Tensor, num_images: int
    ) -> Float[Tensor, "3 K"]:
        """As `gradients`, for this rank's share of a batch of `num_images`, and its noise."""
        pack = self.pack
        with computing(pack.points[0].precision, pack.device):
            terms = elbo_terms(pack.vae, x, eps)
            loss = self.weights.loss(terms, step, num_images)
            for parameter in self.parameters:
                parameter.grad = None
            loss.sum().backward()  # the models' losses are independent
        with torch.no_grad():
            return torch.stack((terms.log_px.sum(1), terms.kl.sum(1), loss))
