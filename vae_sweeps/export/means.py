"""The mean of each of our likelihoods, as Python text that needs torch alone."""

from dataclasses import dataclass

from torch import nn

_CONTINUOUS_BERNOULLI = '''
def continuous_bernoulli_mean(logits):
    """1/2 + (coth(u) - 1/u) / 2, u = logits / 2, by its series near 0 (Loaiza-Ganem & Cunningham 2019)."""
    u = logits / 2
    squared, series = u * u, torch.zeros_like(u)
    for coefficient in (-1382 / 638512875, 2 / 93555, -1 / 4725, 2 / 945, -1 / 45, 1 / 3):
        series = series * squared + coefficient
    is_small = u.abs() < 0.25
    safe = torch.where(is_small, torch.ones_like(u), u)
    return 0.5 + 0.5 * torch.where(is_small, u * series, 1 / torch.tanh(safe) - 1 / safe)
'''
_DISCRETIZED_LOGISTIC = '''
def discretized_logistic_mean(params, low, step, scale):
    """The mean of 256 levels from `low`, `step` apart: the sum of P(above the bound) over the bounds between levels."""
    bounds = low + (torch.arange(255, dtype=params.dtype, device=params.device) + 0.5) * step
    total = torch.zeros_like(params)
    for bound in bounds:
        total = total + torch.sigmoid((params - bound) / scale)
    return low + step * total
'''


@dataclass(frozen=True)
class Mean:
    """An expression in `params` [B,D], and the functions that it calls."""

    expression: str
    functions: str = ""


def of(likelihood: nn.Module, target: str) -> Mean:
    """The mean of one of our likelihoods of K = 1, whose public name is `target`."""
    name = target.rpartition(".")[2]
    if name == "Bernoulli":
        return Mean("torch.sigmoid(params)")
    if name == "ContinuousBernoulli":
        return Mean("continuous_bernoulli_mean(params)", _CONTINUOUS_BERNOULLI)
    if name == "DiscretizedLogistic":
        low, step = (float(getattr(likelihood, key)) for key in ("low", "step"))
        scale = float(likelihood.scales.value[0])  # type: ignore[union-attr]
        return Mean(f"discretized_logistic_mean(params, {low!r}, {step!r}, {scale!r})", _DISCRETIZED_LOGISTIC)
    assert name in ("Gaussian", "Laplace"), target
    return Mean("params")
