"""The Gaussian likelihood of K models, in nats with all constants."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps.system import distributed


class Gaussian(nn.Module):
    """Independent pixels with mean `params` and a standard deviation sigma, one for each model.

    sigma: K numbers (fixed); or K times "learned" (a parameter that starts at 1); or K times "optimal": the root of the
    batch's mean squared error, which maximises the batch's log-likelihood (Rybkin et al. 2021, eq. 8). With an optimal
    sigma, evaluations use a running mean of its square over training batches, never the evaluated images: the mean of
    all batches up to the tenth, then one in which the newest has a weight of a tenth.
    """

    params_per_pixel = 1
    is_density = True  # of real-valued pixels, so bits per dimension would depend on their scale
    running_mse: Tensor
    num_batches: Tensor  # that the running mean covers
    fixed_sigma: Tensor
    # With more, sigma lags behind a falling error: with 100, by 8 nats per image after 300 steps on mnist5k.
    _MAX_BATCHES = 10

    def __init__(self, num_models: int, sigma: Sequence[float | str]) -> None:
        super().__init__()
        assert len(sigma) == num_models
        self.kind = sigma[0] if isinstance(sigma[0], str) else "fixed"
        if self.kind == "learned":
            self.log_sigma = nn.Parameter(torch.zeros(num_models))
        elif self.kind == "optimal":
            self.register_buffer("running_mse", torch.full((num_models,), math.inf))  # no batch seen yet
            self.register_buffer("num_batches", torch.zeros(num_models))
        else:
            self.register_buffer("fixed_sigma", torch.tensor(sigma, dtype=torch.float64), persistent=False)

    @property
    def sigma(self) -> Float[Tensor, " K"]:
        """The standard deviation that an evaluation uses."""
        if self.kind == "learned":
            return self.log_sigma.exp()
        return self.running_mse.sqrt() if self.kind == "optimal" else self.fixed_sigma

    def log_prob(self, params: Float[Tensor, "K B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "K B"]:
        squared_error = (x - params).square().sum(-1)
        num_pixels = x.shape[-1]
        if self.kind == "learned":
            log_sigma = self.log_sigma
        elif self.kind == "optimal" and self.training:
            # The gradient with respect to sigma is zero at the optimum, so it is not computed.
            # Made on the device, since a GPU would be waited for if a number were copied there.
            num_images = distributed.total(params.new_full((), len(x)))
            mse = distributed.total(squared_error.detach().sum(-1)) / (num_images * num_pixels)
            running = self.running_mse.lerp(mse, 1 / self.num_batches.add_(1).clamp_(max=self._MAX_BATCHES))
            self.running_mse.copy_(torch.where(self.running_mse.isinf(), mse, running))
            log_sigma = mse.log() / 2
        else:
            log_sigma = self.sigma.log().to(params.dtype)
        # -D/2 ln(2 pi sigma^2) - |x - mean|^2 / (2 sigma^2)
        constant = -num_pixels * (log_sigma + 0.5 * math.log(2 * math.pi))
        precision = (-2 * log_sigma).exp()
        return constant.unsqueeze(-1) - 0.5 * precision.unsqueeze(-1) * squared_error

    def mean(self, params: Tensor) -> Tensor:
        return params

    def sample(self, params: Float[Tensor, "K B D"], generator: torch.Generator | None = None) -> Tensor:
        """One draw for each pixel."""
        eps = torch.randn(params.shape, generator=generator, device=params.device, dtype=params.dtype)
        return params + self.sigma.to(params.dtype)[:, None, None] * eps
