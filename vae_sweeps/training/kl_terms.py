"""KL terms that are not linear in the KL of an image: free bits and capacity, as numbers of each model.

Both replace the KL of an image by another number of nats, so that its mean over a batch is the term of the loss:

    free bits  sum_j max(lambda, mean_b KL_j)     Kingma et al. 2016, eq. 15, with lambda nats for each latent
    capacity   |mean_b KL - C(step)|              Burgess et al. 2018, eq. 8, with gamma in place of beta
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vae_sweeps.config.schema import Objective, Point
from vae_sweeps.models.vae import Terms
from vae_sweeps.system import distributed


@dataclass(frozen=True)
class KlTerms:
    """Each model's free bits [K,1,L], 0 in the padding, and its capacity [K,1]; NaN for models without one."""

    free_bits: Tensor
    start: Tensor
    end: Tensor
    steps: Tensor

    def of_images(self, terms: Terms, step: int | Tensor, num_images: int | None) -> Float[Tensor, "K B"]:
        """What stands for the KL of each image at `step` (from 0); the means are those of the whole batch.

        With `num_images`, `terms` are this rank's share of a batch of this size.
        """
        per_latent = terms.kl_per_latent
        means = per_latent.detach().sum(1, keepdim=True)
        means = means / per_latent.shape[1] if num_images is None else distributed.total(means) / num_images
        found = torch.where(means > self.free_bits, per_latent, self.free_bits).sum(-1)
        found = torch.where(self.free_bits.any(-1), found, terms.kl)
        capacity = self.start + (self.end - self.start) * (self.steps.reciprocal() * step).clamp(max=1.0)
        distance = (means.sum(-1) - capacity).sign() * (terms.kl - capacity)
        return torch.where(capacity.isnan(), found, distance)


def kl_terms(points: Sequence[Point], device: torch.device, dtype: torch.dtype) -> KlTerms | None:
    """The terms of a pack; None if all its points use the KL itself."""
    objectives = [point.objective for point in points]
    if not any(objective.free_bits or has_capacity(objective) for objective in objectives):
        return None
    free_bits = torch.zeros(len(points), 1, max(point.latent for point in points), device=device, dtype=dtype)
    for k, point in enumerate(points):
        free_bits[k, :, : point.latent] = point.objective.free_bits

    def column(name: str) -> Tensor:
        values = [getattr(objective, name) if has_capacity(objective) else torch.nan for objective in objectives]
        return torch.tensor(values, device=device, dtype=dtype).unsqueeze(1)

    return KlTerms(free_bits, column("capacity_start"), column("capacity_end"), column("capacity_steps"))


def has_capacity(objective: Objective) -> bool:
    """Whether the objective holds the KL at a capacity."""
    return objective.capacity_gamma is not None
