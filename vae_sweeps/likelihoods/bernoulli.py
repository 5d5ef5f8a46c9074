"""The Bernoulli likelihood of K models, in nats."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class _BernoulliLogProb(torch.autograd.Function):
    """sum_d x l - ln(1 + e^l); its gradient x - sigmoid(l) takes one pass, while autograd's takes four."""

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

    is_density = False
    params_per_pixel = 1

    def __init__(self, num_models: int) -> None:
        super().__init__()

    def log_prob(self, params: Float[Tensor, "K B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "K B"]:
        return _BernoulliLogProb.apply(params, x)  # type: ignore[return-value]

    def mean(self, params: Tensor) -> Tensor:
        return torch.sigmoid(params)

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw for each pixel, 0 or 1."""
        u = torch.rand(params.shape, generator=generator, device=params.device, dtype=params.dtype)
        return (u < torch.sigmoid(params)).to(params.dtype)
