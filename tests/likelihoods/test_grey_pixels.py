"""The likelihoods for grey pixels: closed forms, limits, and torch.distributions."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from vae_sweeps.likelihoods import ContinuousBernoulli, DiscretizedLogistic, Laplace

D = 4


def around_zero(dtype: torch.dtype) -> torch.Tensor:
    """Logits on both sides of where the series ends, and far out."""
    near = torch.linspace(-1.2, 1.2, 241, dtype=torch.float64)
    return torch.cat([near, torch.tensor([-300.0, -40.0, 1e-6, 40.0, 300.0])]).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_the_continuous_bernoulli_has_its_closed_form_everywhere(dtype, tolerance) -> None:
    """ln p(x) = x l - ln((e^l - 1) / l), with 60 digits; and the mean is its derivative."""
    from decimal import Decimal, getcontext

    getcontext().prec = 60
    logits = around_zero(dtype)
    likelihood = ContinuousBernoulli(1)
    found = likelihood.log_prob(logits[None, :, None], torch.full((len(logits), 1), 0.25, dtype=dtype))[0].double()
    means = likelihood.mean(logits).double()
    for logit, value, mean in zip(logits.tolist(), found.tolist(), means.tolist(), strict=True):
        exact = Decimal(logit)
        if not exact:
            assert (value, mean) == pytest.approx((0.0, 0.5), abs=tolerance)
            continue
        expected = exact / 4 - ((exact.exp() - 1) / exact).ln()
        assert value == pytest.approx(float(expected), rel=tolerance, abs=tolerance)
        expected_mean = exact.exp() / (exact.exp() - 1) - 1 / exact
        assert mean == pytest.approx(float(expected_mean), rel=tolerance, abs=tolerance)


def test_the_continuous_bernoulli_equals_torchs_away_from_one_half() -> None:
    logits = torch.tensor([[-6.0, -2.0, 1.5, 5.0]], dtype=torch.float64)
    x = torch.tensor([[0.1, 0.5, 0.9, 1.0]], dtype=torch.float64)
    theirs = torch.distributions.ContinuousBernoulli(logits=logits)
    torch.testing.assert_close(ContinuousBernoulli(1).log_prob(logits[None], x)[0], theirs.log_prob(x).sum(-1))
    torch.testing.assert_close(ContinuousBernoulli(1).mean(logits), theirs.mean)


def test_it_is_the_cross_entropy_plus_a_constant_of_the_parameters() -> None:
    """ln C(p) = ln(2 artanh(1 - 2p) / (1 - 2p)), Loaiza-Ganem & Cunningham 2019."""
    p = torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64)
    constant = (2 * torch.atanh(1 - 2 * p) / (1 - 2 * p)).log().sum()
    x = torch.rand(1, 3, dtype=torch.float64)
    cross_entropy = (x * p.log() + (1 - x) * (1 - p).log()).sum()
    found = ContinuousBernoulli(1).log_prob(p.logit()[None, None], x)
    assert found.item() == pytest.approx((cross_entropy + constant).item(), rel=1e-12)


def test_laplace_equals_torchs_and_has_its_constant() -> None:
    params, x = torch.randn(2, 3, D, dtype=torch.float64), torch.rand(3, D, dtype=torch.float64)
    likelihood = Laplace(2, [0.2, 3.0])
    for k, scale in enumerate((0.2, 3.0)):
        expected = torch.distributions.Laplace(params[k], scale).log_prob(x).sum(-1)
        torch.testing.assert_close(likelihood.log_prob(params, x)[k], expected)
    at_mean = Laplace(1, [0.5]).log_prob(x[None], x)
    torch.testing.assert_close(at_mean, torch.zeros(1, 3, dtype=torch.float64))  # -D ln(2 b) = 0 at b = 1/2


@pytest.mark.parametrize("pixel_range", [(0.0, 1.0), (-1.0, 1.0)])
@pytest.mark.parametrize("scale", [1e-4, 0.01, 0.3, 10.0])
def test_the_levels_of_a_discretised_logistic_add_up_to_one(pixel_range, scale) -> None:
    low, high = pixel_range
    levels = (torch.arange(256, dtype=torch.float64) * (high - low) / 255 + low)[:, None]
    likelihood = DiscretizedLogistic(1, [scale], pixel_range)
    for mean in (low - 1, low, 0.3, high, high + 1):
        log_p = likelihood.log_prob(torch.full((1, 256, 1), mean, dtype=torch.float64), levels)[0]
        assert log_p.isfinite().all()
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)
        expected = (log_p.exp() * levels[:, 0]).sum().item()
        found = likelihood.mean(torch.full((1, 1, 1), mean, dtype=torch.float64)).item()
        assert found == pytest.approx(expected, abs=1e-9)


def test_a_discretised_logistic_is_a_difference_of_sigmoids() -> None:
    m, s, x = 0.4, 0.05, 100 / 255
    difference = 1 / (1 + math.exp(-(x + 0.5 / 255 - m) / s)) - 1 / (1 + math.exp(-(x - 0.5 / 255 - m) / s))
    found = DiscretizedLogistic(1, [s], [0, 1]).log_prob(
        torch.full((1, 1, 1), m, dtype=torch.float64), torch.full((1, 1), x, dtype=torch.float64)
    )
    assert found.item() == pytest.approx(math.log(difference), rel=1e-10)


@pytest.mark.parametrize("kind", [Laplace, DiscretizedLogistic])
def test_a_learned_scale_has_the_right_gradient_and_k_models_equal_single_ones(kind) -> None:
    more = ([0.0, 1.0],) if kind is DiscretizedLogistic else ()
    likelihood = kind(2, ["learned"] * 2, *more).double()
    params = torch.rand(2, 3, D, dtype=torch.float64)
    x = torch.randint(0, 256, (3, D)).double() / 255
    factor = likelihood.scales.log_factor

    def of(log_factor: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(
            _LogProb(likelihood), {"likelihood.scales.log_factor": log_factor}, (params, x)
        )

    assert gradcheck(of, (torch.tensor([0.1, -0.3], dtype=torch.float64, requires_grad=True),))
    with torch.no_grad():
        factor.copy_(torch.tensor([0.1, -0.3]))
    for k in (0, 1):
        alone = kind(1, ["learned"], *more).double()
        with torch.no_grad():
            alone.scales.log_factor.copy_(factor[k : k + 1])
        torch.testing.assert_close(alone.log_prob(params[k : k + 1], x)[0], likelihood.log_prob(params, x)[k])


class _LogProb(torch.nn.Module):
    def __init__(self, likelihood: torch.nn.Module) -> None:
        super().__init__()
        self.likelihood = likelihood

    def forward(self, params: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.likelihood.log_prob(params, x)  # type: ignore[operator]
