"""The training losses that papers build from the ELBO's terms, with each convention's factor in nats.

Every convention is loss = scale * (-log p(x|z) - offset + beta_nats * KL), reduced over the batch:

    error    pixels  latents  the source's loss                        scale         beta_nats
    nll      sum     sum      -log p(x|z) + beta KL                    1             beta
    nll      mean    mean     -log p(x|z) / D + beta KL / L            1/D           beta D / L
    squared  mean    sum      |x - mean|^2 / D + beta KL               2 sigma^2/D   beta D / (2 sigma^2)

so two runs are comparable by `beta_nats` whatever their convention: it is the beta of Higgins et al. 2017. Free bits
and capacity replace the KL, see `kl_terms`. A function of the user's own replaces the whole loss of an image.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from vae_sweeps.config.schema import Point
from vae_sweeps.models.vae import Terms
from vae_sweeps.training import own_objective
from vae_sweeps.training.kl_terms import KlTerms, has_capacity, kl_terms


@dataclass(frozen=True)
class Weights:
    """Factors of the loss, each [K,1]; beta grows linearly from 0 over `warmup_steps` steps (0: no warmup).

    With `cycle_steps` (inf: no cycles) it does so again at the start of each cycle. `beta_nats` holds each model's beta
    after the warmup; see the function of that name. `kl_terms` is None where the loss has the KL itself. `custom` is
    a function of the user's own, in place of all this.
    """

    scale: Tensor
    offset: Tensor
    scaled_beta: Tensor
    warmup_steps: Tensor
    cycle_steps: Tensor
    sums_over_batch: bool
    beta_nats: list[float | None]
    kl_terms: KlTerms | None = None
    custom: Callable[..., Tensor] | None = None
    beta: Tensor | None = None

    def loss(self, terms: Terms, step: int | Tensor, num_images: int | None = None) -> Float[Tensor, " K"]:
        """Each model's training loss at `step` (from 0), in the units of its convention.

        The step may be a tensor of one number, except for a function of the user's own.
        If `terms` cover only a share of a batch, `num_images` is the size of the whole batch: the losses of the shares
        add up to the batch's.
        """
        if self.custom is not None:
            assert self.beta is not None
            per_image = self.custom(terms, step, self.beta * self._share_of_beta(step))
        else:
            beta = self.scaled_beta
            if self.warmup_steps.numel():
                beta = beta * self._share_of_beta(step)
            kl = terms.kl if self.kl_terms is None else self.kl_terms.of_images(terms, step, num_images)
            per_image = torch.addcmul(beta * kl, self.scale, terms.log_px + self.offset, value=-1)
        return per_image.sum(1) if self.sums_over_batch else per_image.sum(1) / (num_images or per_image.shape[1])

    def beta_nats_at(self, step: int) -> list[float | None]:
        """Each model's weight of the KL relative to -log p(x|z), both in nats, in the loss at `step` (from 0).

        None for a model whose loss has no such weight: one with a capacity, or with a function of the user's own.
        """
        if not self.warmup_steps.numel():
            return self.beta_nats
        shares = self._share_of_beta(step).flatten().tolist()
        return [None if beta is None else beta * share for beta, share in zip(self.beta_nats, shares, strict=True)]

    def _share_of_beta(self, step: int | Tensor) -> Float[Tensor, "K 1"]:
        if not self.warmup_steps.numel():
            return torch.ones_like(self.scale)
        steps = torch.zeros_like(self.cycle_steps) + step
        position = torch.remainder(steps, self.cycle_steps)  # step itself without cycles
        return (position / self.warmup_steps).nan_to_num(nan=1.0, posinf=1.0).clamp(max=1.0)


def scale_and_offset(point: Point, image_shape: Sequence[int]) -> tuple[float, float]:
    """The factor of -log p(x|z) - offset in the point's convention, and the offset in nats."""
    num_pixels = prod(image_shape)
    scale, offset = 1.0, 0.0
    if point.objective.error == "squared":
        variance = float(point.likelihood["sigma"]) ** 2
        scale, offset = 2 * variance, num_pixels / 2 * math.log(2 * math.pi * variance)
    if point.objective.pixels == "mean":
        scale /= num_pixels
    return scale, offset


def beta_nats(point: Point, image_shape: Sequence[int]) -> float | None:
    """The weight of the KL relative to -log p(x|z), both in nats; None if the loss has no such weight."""
    if has_capacity(point.objective) or point.objective.custom:
        return None
    scale, _ = scale_and_offset(point, image_shape)
    return point.beta / scale / (point.latent if point.objective.latents == "mean" else 1)


def weights(
    points: Sequence[Point],
    image_shape: Sequence[int],
    steps_per_epoch: int,
    device: torch.device,
    dtype: torch.dtype,
    num_steps: int = 0,
) -> Weights:
    """The factors of a pack's losses, which train for `num_steps` steps.

    Its points must agree on `objective.batch` and `objective.custom`.
    """
    columns = [scale_and_offset(point, image_shape) for point in points]
    betas = [beta_nats(point, image_shape) for point in points]
    factors = [point.objective.capacity_gamma or beta or 0.0 for point, beta in zip(points, betas, strict=True)]
    cycles = [_cycle(point, num_steps) for point in points]
    warmups = [
        round(point.objective.warmup_epochs * steps_per_epoch)
        if math.isinf(cycle)
        else cycle * point.objective.cycle_rise
        for point, cycle in zip(points, cycles, strict=True)
    ]

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=device, dtype=dtype).unsqueeze(1)

    return Weights(
        scale=column([scale for scale, _ in columns]),
        offset=column([offset for _, offset in columns]),
        scaled_beta=column([scale * factor for (scale, _), factor in zip(columns, factors, strict=True)]),
        warmup_steps=column(warmups) if any(warmups) else torch.empty(0),
        cycle_steps=column(cycles),
        sums_over_batch=points[0].objective.batch == "sum",
        beta_nats=betas,
        kl_terms=kl_terms(points, device, dtype),
        custom=own_objective.function_of(points[0].objective),
        beta=column([point.beta for point in points]),
    )


def _cycle(point: Point, num_steps: int) -> float:
    """The steps of a cycle of the KL's weight (Fu et al. 2019, eq. 6), inf without cycles."""
    if point.objective.schedule != "cyclical":
        return math.inf
    assert num_steps
    return math.ceil(num_steps / point.objective.cycles)
