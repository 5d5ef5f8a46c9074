"""log p(x|z) of K models in nats with all constants: `params` [K,B,D] come from the decoder, x [B,D] is shared."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps import parallel


class _BernoulliLogProb(torch.autograd.Function):
    """sum_d x l - ln(1 + e^l); its gradient x - sigmoid(l) takes one pass, where autograd's own takes four."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(logits, x)
        return torch.linalg.vecdot(logits, x) - F.softplus(logits).sum(-1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        logits, x = ctx.saved_tensors
        return torch.sigmoid(logits).neg_().add_(x).mul_(grad_outputs[0].unsqueeze(-1)), None


class Bernoulli(nn.Module):
    """Independent pixels with p = sigmoid(params); x in [0,1] (grey values give the cross-entropy)."""

    def __init__(self, num_models: int) -> None:
        super().__init__()

    def log_prob(self, params: Float[Tensor, "K B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "K B"]:
        return _BernoulliLogProb.apply(params, x)  # type: ignore[return-value]

    def mean(self, params: Tensor) -> Tensor:
        return torch.sigmoid(params)

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.bernoulli(torch.sigmoid(params), generator=generator)


class Gaussian(nn.Module):
    """Independent pixels with mean params and a standard deviation sigma, one for each model.

    sigma: K numbers (fixed); or K times "learned" (a parameter, from 1); or K times "optimal": the root of the
    batch's mean squared error, which maximises the batch's log-likelihood (Rybkin et al. 2021, eq. 8). Evaluations of
    an optimal sigma use a running mean of its square over training batches, never the evaluated images.
    """

    running_mse: Tensor
    fixed_sigma: Tensor
    # Weight of the newest batch: an average over the last hundred or so.
    momentum = 0.01

    def __init__(self, num_models: int, sigma: Sequence[float | str]) -> None:
        super().__init__()
        assert len(sigma) == num_models
        self.kind = sigma[0] if isinstance(sigma[0], str) else "fixed"
        if self.kind == "learned":
            self.log_sigma = nn.Parameter(torch.zeros(num_models))
        elif self.kind == "optimal":
            self.register_buffer("running_mse", torch.full((num_models,), math.inf))  # no batch seen yet
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
            # The gradient through sigma vanishes at the optimum, so none is taken.
            num_images = parallel.total(torch.tensor(float(len(x))))
            mse = parallel.total(squared_error.detach().sum(-1)) / (num_images * num_pixels).to(params)
            running = self.running_mse.lerp(mse, self.momentum)
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

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(params.shape, generator=generator, device=params.device, dtype=params.dtype)
        return params + self.sigma.to(params.dtype)[:, None, None] * noise
