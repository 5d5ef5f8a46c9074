"""The discretised logistic likelihood of K models: probabilities of the 256 levels of a pixel, in nats."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps.likelihoods.scale import Scale

_LEVELS = 256


class DiscretizedLogistic(nn.Module):
    """Independent pixels, each one of 256 levels with the probability that a logistic variable falls into its bin.

    P(x) = sigmoid((x + h - m) / s) - sigmoid((x - h - m) / s), m = params, with h half the distance of two levels; the
    bins of the first and the last level are open (Salimans et al. 2017, eq. 2, with one component). The levels divide
    `pixel_range` evenly, and m and the scale s have its units. scale: K numbers (fixed), or K times "learned" (a
    parameter that starts at a tenth of the range).
    """

    is_density = False
    params_per_pixel = 1

    def __init__(self, num_models: int, scale: Sequence[float | str], pixel_range: Sequence[float]) -> None:
        super().__init__()
        assert len(scale) == num_models
        self.low, self.high = map(float, pixel_range)
        self.step = (self.high - self.low) / (_LEVELS - 1)
        self.scales = Scale(scale, (self.high - self.low) / 10)

    @property
    def scale(self) -> Float[Tensor, " K"]:
        return self.scales.value

    def log_prob(self, params: Float[Tensor, "K B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "K B"]:
        scale, half = self.scales.column(params), self.step / 2
        upper, lower = (x + half - params) / scale, (x - half - params) / scale
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), in which nothing cancels
        below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
        inside = torch.log(-torch.expm1(-self.step / scale))
        is_first, is_last = x < self.low + half, x > self.high - half
        log_p = torch.where(is_first, below, torch.where(is_last, above, below + above + inside))
        return log_p.sum(-1)

    def mean(self, params: Float[Tensor, "K B D"]) -> Float[Tensor, "K B D"]:
        """The mean level: low + step x the sum over the 255 bounds between levels of P(above the bound)."""
        scale, total = self.scales.column(params), torch.zeros_like(params)
        for i in range(_LEVELS - 1):
            total += torch.sigmoid((params - (self.low + (i + 0.5) * self.step)) / scale)
        return self.low + self.step * total

    def sample(self, params: Float[Tensor, "K B D"], generator: torch.Generator | None = None) -> Tensor:
        """One level for each pixel."""
        u = torch.rand(params.shape, generator=generator, device=params.device, dtype=params.dtype)
        drawn = params + self.scales.column(params) * torch.logit(u, eps=1e-6)
        level = ((drawn - self.low) / self.step).round().clamp(0, _LEVELS - 1)
        return self.low + level * self.step
