"""Check a likelihood: its normalisation, mean, gradient and samples."""

import inspect
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

_NUM_PIXELS, _NUM_SETS = 3, 5
_PANELS, _NODES = 4000, 5
_NUM_DRAWS = 20_000


def check_likelihood(
    likelihood: nn.Module,
    *,
    support: tuple[float, float] | None = None,
    levels: Sequence[float] | None = None,
    params_range: tuple[float, float] = (-2.0, 2.0),
    seed: int = 0,
) -> None:
    """Raise AssertionError, with one sentence, unless the likelihood of one model keeps the contract.

    `log_prob(params [B, P*D], x [B,D])` is ln p(x|z) of each image in nats, [B], with P = `params_per_pixel`, by
    default 1; `mean(params)` is [B,D], and `sample(params, generator)`, if there is one, too. A likelihood whose
    constructor takes `num_models` has K in front of all but x, and is checked with K = 1.

    The pixel values are `levels`, whose probabilities must add up to 1, or those of the interval `support`, over which
    the density must integrate to 1 (by default all real numbers), each to 1e-6. Parameters are drawn from
    `params_range`. Everything is computed in float64.
    """
    likelihood = likelihood.double().eval()
    check = _Check(likelihood, "num_models" in inspect.signature(type(likelihood).__init__).parameters)
    draw = torch.Generator().manual_seed(seed)
    low, high = params_range
    per_pixel = int(getattr(likelihood, "params_per_pixel", 1))
    params = low + (high - low) * torch.rand(_NUM_SETS, per_pixel * _NUM_PIXELS, generator=draw, dtype=torch.float64)
    of_one = low + (high - low) * torch.rand(_NUM_SETS, per_pixel, generator=draw, dtype=torch.float64)
    values, weights = _grid(support, levels)
    x = values[torch.randint(len(values), (_NUM_SETS, _NUM_PIXELS), generator=draw)]

    log_p = check.log_prob(params, x)
    assert log_p.shape == (_NUM_SETS,), (
        f"log_prob returned {list(log_p.shape)} for {_NUM_SETS} images, not one number each"
    )
    assert log_p.isfinite().all(), "log_prob returned NaN or infinity"
    p = torch.stack([check.log_prob(one.expand(len(values), -1), values[:, None]).exp() for one in of_one])
    total = (p * weights).sum(1)
    worst = (total - 1).abs().max().item()
    assert worst < 1e-6, f"the probabilities add up to {total[(total - 1).abs().argmax()].item():.9g}, not to 1"
    mean = check.mean(of_one)
    assert mean.shape == (_NUM_SETS, 1), f"mean returned {list(mean.shape)}, not {[_NUM_SETS, 1]}"
    expected = (p * weights * values).sum(1)
    error = (mean[:, 0] - expected).abs().max().item()
    assert error < 1e-5 * max(1.0, expected.abs().max().item()), (
        f"mean differs from that of the probabilities by {error:.2g}"
    )
    asked = params.clone().requires_grad_()
    is_right = torch.autograd.gradcheck(lambda q: check.log_prob(q, x), (asked,), raise_exception=False)
    assert is_right, "the gradient of log_prob differs from finite differences"
    if hasattr(likelihood, "sample"):
        _check_samples(check, of_one, mean, draw)


class _Check(nn.Module):
    """The likelihood with the shapes of one model."""

    def __init__(self, likelihood: nn.Module, is_for_many: bool) -> None:
        super().__init__()
        self.likelihood, self.is_for_many = likelihood, is_for_many

    def log_prob(self, params: Float[Tensor, "B P"], x: Float[Tensor, "B D"]) -> Tensor:
        of = self.likelihood.log_prob  # type: ignore[operator]
        return of(params[None], x)[0] if self.is_for_many else of(params, x)  # type: ignore[operator]

    def mean(self, params: Float[Tensor, "B P"]) -> Tensor:
        of = self.likelihood.mean
        return of(params[None])[0] if self.is_for_many else of(params)  # type: ignore[operator]

    def sample(self, params: Float[Tensor, "B P"], draw: torch.Generator) -> Tensor:
        of = self.likelihood.sample
        return of(params[None], draw)[0] if self.is_for_many else of(params, draw)  # type: ignore[operator]


def _grid(support: tuple[float, float] | None, levels: Sequence[float] | None) -> tuple[Tensor, Tensor]:
    """Values and weights whose weighted sums are sums over levels, or integrals by Gauss-Legendre quadrature."""
    if levels is not None:
        values = torch.tensor(list(levels), dtype=torch.float64)
        return values, torch.ones_like(values)
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(_NODES))
    low, high = support or (-1.0, 1.0)
    width = (high - low) / _PANELS
    starts = low + width * torch.arange(_PANELS, dtype=torch.float64)
    t = (starts[:, None] + width * (nodes + 1) / 2).flatten()
    w = (width / 2 * weights).repeat(_PANELS)
    if support is not None:
        return t, w
    # x = t / (1 - t^2) maps (-1, 1) to all real numbers.
    return t / (1 - t**2), w * (1 + t**2) / (1 - t**2) ** 2


def _check_samples(check: _Check, params: Tensor, mean: Tensor, draw: torch.Generator) -> None:
    drawn = check.sample(params.repeat_interleave(_NUM_DRAWS, 0), draw).view(len(params), _NUM_DRAWS)
    error = (drawn.mean(1) - mean[:, 0]).abs()
    allowed = 6 * drawn.std(1) / _NUM_DRAWS**0.5 + 1e-4  # for values that are almost never drawn
    assert (error < allowed).all(), f"samples have a mean that is {(error / allowed * 6).max().item():.1f} errors off"
