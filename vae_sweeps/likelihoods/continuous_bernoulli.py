"""The continuous Bernoulli likelihood of K models, in nats (Loaiza-Ganem & Cunningham 2019)."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Below this the closed forms lose digits, and their series have all of them.
_SMALL = 0.25
# ln(sinh(u) / u) = u^2 times the polynomial in u^2 with these coefficients; coth(u) - 1/u = u times the second one.
_OF_LOG = (1 / 6, -1 / 180, 1 / 2835, -1 / 37800, 1 / 467775, -691 / 3831077250)
_OF_MEAN = (1 / 3, -1 / 45, 2 / 945, -1 / 4725, 2 / 93555, -1382 / 638512875)


class _LogProb(torch.autograd.Function):
    """sum_d x l - A(l); its gradient x - A'(l) is x minus the mean."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(logits, x)
        return torch.linalg.vecdot(logits, x) - _log_normaliser(logits).sum(-1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        logits, x = ctx.saved_tensors
        return (x - _mean(logits)).mul_(grad_outputs[0].unsqueeze(-1)), None


class ContinuousBernoulli(nn.Module):
    """Independent pixels with a density on [0,1] that is proportional to p^x (1-p)^(1-x), p = sigmoid(params).

    With l = params the density is exp(x l - A(l)), A(l) = ln((e^l - 1) / l). The Bernoulli likelihood of grey pixels
    lacks the constant of this density, ln(l / tanh(l/2)).
    """

    is_density = True
    params_per_pixel = 1

    def __init__(self, num_models: int) -> None:
        super().__init__()

    def log_prob(self, params: Float[Tensor, "K B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "K B"]:
        return _LogProb.apply(params, x)  # type: ignore[return-value]

    def mean(self, params: Float[Tensor, "K B D"]) -> Float[Tensor, "K B D"]:
        """The mean of the density, which is not sigmoid(params): 1/2 + (coth(l/2) - 2/l) / 2."""
        return _mean(params)

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw for each pixel, by the inverse of the distribution function."""
        u = torch.rand(params.shape, generator=generator, device=params.device, dtype=params.dtype)
        size = params.abs().clamp(min=1e-3)
        large = 1 + torch.log(u + (1 - u) * (-size).exp()) / size  # for positive l
        small = u + params.abs() * u * (1 - u) / 2
        drawn = torch.where(params.abs() < 1e-3, small, large).clamp(0, 1)
        return torch.where(params < 0, 1 - drawn, drawn)


def _log_normaliser(logits: Tensor) -> Tensor:
    """A(l) = l/2 + ln(sinh(u) / u), u = |l| / 2."""
    u = logits.abs() / 2
    series = u.square() * _polynomial(u.square(), _OF_LOG)
    safe = u.clamp(min=_SMALL)
    closed = safe + torch.log(-torch.expm1(-2 * safe)) - torch.log(2 * safe)
    return logits / 2 + torch.where(u < _SMALL, series, closed)


def _mean(logits: Tensor) -> Tensor:
    """A'(l) = 1/2 + (coth(u) - 1/u) / 2, u = l / 2."""
    u = logits / 2
    safe = torch.where(u.abs() < _SMALL, torch.ones_like(u), u)
    closed = 1 / torch.tanh(safe) - 1 / safe
    return 0.5 + 0.5 * torch.where(u.abs() < _SMALL, u * _polynomial(u.square(), _OF_MEAN), closed)


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value
