"""The Laplace likelihood of K models, in nats with all constants."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps.likelihoods.scale import Scale


class Laplace(nn.Module):
    """Independent pixels with the density exp(-|x - params| / b) / (2 b), where b is the scale of a model.

    scale: K numbers (fixed), or K times "learned" (a parameter that starts at 1).
    """

    is_density = True
    params_per_pixel = 1

    def __init__(self, num_models: int, scale: Sequence[float | str]) -> None:
        super().__init__()
        assert len(scale) == num_models
        self.scales = Scale(scale, 1.0)

    @property
    def scale(self) -> Float[Tensor, " K"]:
        return self.scales.value

    def log_prob(self, params: Float[Tensor, "K B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "K B"]:
        scale = self.scales.column(params)[..., 0]
        return -(x - params).abs().sum(-1) / scale - x.shape[-1] * (2 * scale).log()

    def mean(self, params: Tensor) -> Tensor:
        return params

    def sample(self, params: Float[Tensor, "K B D"], generator: torch.Generator | None = None) -> Tensor:
        """One draw for each pixel, by the inverse of the distribution function."""
        u = torch.rand(params.shape, generator=generator, device=params.device, dtype=params.dtype) - 0.5
        return params - self.scales.column(params) * u.sign() * torch.log1p(-2 * u.abs())
