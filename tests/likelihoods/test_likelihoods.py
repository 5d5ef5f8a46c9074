"""log p(x|z) compared with torch.distributions and with closed forms."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from vae_sweeps.likelihoods.bernoulli import Bernoulli
from vae_sweeps.likelihoods.gaussian import Gaussian

K, B, D = 3, 5, 7


def random_params(seed: int = 0) -> Tensor:
    return torch.randn(K, B, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_pixels(kind: str) -> Tensor:
    grey = torch.rand(B, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return grey if kind == "grey" else grey.round()


@pytest.mark.parametrize(("sigma", "nats"), [(1.0, 720.4478), (0.1, -1084.7789)])
def test_gaussian_constant_of_784_pixels(sigma, nats) -> None:
    """At x = mean, -log p is D/2 ln(2 pi sigma^2)."""
    x = torch.rand(1, 784, dtype=torch.float64)
    assert -Gaussian(1, [sigma]).log_prob(x[None], x).item() == pytest.approx(nats, abs=5e-5)


def test_bernoulli_constant_of_784_pixels() -> None:
    """For logits of 0, -log p is 784 ln 2, whatever the pixels."""
    x = torch.stack([torch.ones(784), torch.zeros(784), torch.rand(784)]).double()
    log_px = Bernoulli(1).log_prob(torch.zeros(1, 3, 784, dtype=torch.float64), x)
    assert (-log_px[0]).tolist() == pytest.approx([543.4274] * 3, abs=5e-5)


def test_bernoulli_equals_torchs_on_binary_pixels() -> None:
    logits, x = random_params().requires_grad_(), random_pixels("binary")
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(x.expand(K, B, D)).sum(-1)
    log_px = Bernoulli(K).log_prob(logits, x)
    torch.testing.assert_close(log_px, expected, rtol=1e-10, atol=1e-10)
    weights = random_params(2)[..., 0]
    (gradient,) = torch.autograd.grad((weights * log_px).sum(), logits)
    (expected_gradient,) = torch.autograd.grad((weights * expected).sum(), logits)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-10)


def test_the_smallest_cross_entropy_of_grey_pixels_is_their_entropy() -> None:
    x = random_pixels("grey")
    entropy = (torch.special.entr(x) + torch.special.entr(1 - x)).sum(-1)
    perfect = -Bernoulli(K).log_prob(torch.logit(x).expand(K, B, D), x)
    torch.testing.assert_close(perfect, entropy.expand(K, B), rtol=1e-12, atol=1e-12)
    assert (-Bernoulli(K).log_prob(random_params(), x) > entropy).all()


def test_bernoulli_on_grey_pixels_is_the_cross_entropy() -> None:
    """sum_d x ln p + (1 - x) ln(1 - p)"""
    logits, x = random_params(), random_pixels("grey")
    p = torch.sigmoid(logits)
    expected = (x * p.log() + (1 - x) * (1 - p).log()).sum(-1)
    torch.testing.assert_close(Bernoulli(K).log_prob(logits, x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["binary", "grey"])
def test_gradient_of_the_bernoulli_function(kind) -> None:
    x = random_pixels(kind)
    assert torch.autograd.gradcheck(lambda logits: Bernoulli(K).log_prob(logits, x), random_params().requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_stay_finite(dtype) -> None:
    """l = +-1000: log p is 0 where the pixel agrees and -1000 where it does not."""
    logits = torch.tensor([[[1e3], [1e3], [-1e3], [-1e3]]], dtype=dtype, requires_grad=True)
    x = torch.tensor([[1.0], [0.0], [0.0], [1.0]], dtype=dtype)
    log_px = Bernoulli(1).log_prob(logits, x)
    assert log_px.tolist() == [[0.0, -1000.0, 0.0, -1000.0]]
    log_px.sum().backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == [0.0, -1.0, 0.0, 1.0]


def test_gaussian_equals_torchs_with_each_models_own_sigma() -> None:
    sigmas = [0.05, 1, 3.0]
    params, x = random_params().requires_grad_(), random_pixels("grey")
    scale = torch.tensor(sigmas, dtype=torch.float64)[:, None, None]
    expected = Normal(params, scale).log_prob(x).sum(-1)
    log_px = Gaussian(K, sigmas).log_prob(params, x)
    torch.testing.assert_close(log_px, expected, rtol=1e-10, atol=1e-10)
    (gradient,) = torch.autograd.grad(log_px.sum(), params)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), params)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-10)


def test_a_fixed_sigma_is_neither_trained_nor_stored() -> None:
    likelihood = Gaussian(K, [0.1] * K)
    assert list(likelihood.parameters()) == []
    assert likelihood.state_dict() == {}


def test_learned_sigma_starts_at_one_and_has_the_right_gradient() -> None:
    """d log p / d ln sigma = |x - mean|^2 / sigma^2 - D"""
    likelihood = Gaussian(K, ["learned"] * K).double()
    assert likelihood.sigma.tolist() == [1.0] * K
    params, x = random_params(), random_pixels("grey")
    with torch.no_grad():
        likelihood.log_sigma.copy_(torch.tensor([-1.0, 0.0, 0.5]))
    log_px = likelihood.log_prob(params, x)
    expected = Normal(params, likelihood.sigma.detach()[:, None, None]).log_prob(x).sum(-1)
    torch.testing.assert_close(log_px.detach(), expected, rtol=1e-10, atol=1e-10)
    (gradient,) = torch.autograd.grad(log_px.sum(), likelihood.log_sigma)
    squared_error = (x - params).square().sum(-1)
    exact = (squared_error / likelihood.sigma.detach().square().unsqueeze(1) - D).sum(1)
    torch.testing.assert_close(gradient, exact, rtol=1e-10, atol=1e-10)


def test_optimal_sigma_is_the_batchs_best() -> None:
    """-log p = D/2 (ln(2 pi MSE) + 1), averaged over the batch, and any other sigma does worse."""
    params, x = random_params(), random_pixels("grey")
    best = Gaussian(K, ["optimal"] * K).double().log_prob(params, x).mean(1)
    mse = (x - params).square().mean((1, 2))
    torch.testing.assert_close(-best, D / 2 * ((2 * math.pi * mse).log() + 1), rtol=1e-10, atol=1e-10)
    for factor in (0.9, 0.999, 1.001, 1.1):
        other = Gaussian(K, (factor * mse.sqrt()).tolist()).log_prob(params, x).mean(1)
        assert (other < best).all()


def test_gradient_with_optimal_sigma_equals_the_one_through_sigma() -> None:
    params, x = random_params().requires_grad_(), random_pixels("grey")
    log_px = Gaussian(K, ["optimal"] * K).double().log_prob(params, x).sum()
    mse = (x - params).square().mean((1, 2))
    through = -(B * D / 2 * ((2 * math.pi * mse).log() + 1)).sum()
    (gradient,) = torch.autograd.grad(log_px, params)
    (expected,) = torch.autograd.grad(through, params)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)


def test_evaluation_uses_the_running_mean_of_training_batches() -> None:
    likelihood = Gaussian(K, ["optimal"] * K).double()
    x = random_pixels("grey")
    batches = [random_params(seed) for seed in range(3)]
    errors = [(x - params).square().mean((1, 2)) for params in batches]
    likelihood.log_prob(batches[0], x)
    torch.testing.assert_close(likelihood.sigma, errors[0].sqrt(), rtol=1e-12, atol=0)
    for _ in range(9):
        likelihood.log_prob(batches[1], x)
    torch.testing.assert_close(likelihood.sigma, (0.1 * errors[0] + 0.9 * errors[1]).sqrt(), rtol=1e-12, atol=0)
    likelihood.log_prob(batches[1], x)
    expected = (0.09 * errors[0] + 0.91 * errors[1]).sqrt()
    torch.testing.assert_close(likelihood.sigma, expected, rtol=1e-12, atol=0)
    likelihood.eval()
    log_px = likelihood.log_prob(batches[2], x)
    torch.testing.assert_close(likelihood.sigma, expected, rtol=1e-12, atol=0)  # evaluation does not change it
    torch.testing.assert_close(log_px, Normal(batches[2], expected[:, None, None]).log_prob(x).sum(-1))


def test_the_mean_is_that_of_the_distribution() -> None:
    """Whatever sigma is: the parameters of the Gaussian, and the sigmoid of those of the Bernoulli."""
    params = random_params()
    torch.testing.assert_close(Bernoulli(K).mean(params), 1 / (1 + (-params).exp()))
    for sigma in ([0.1, 1.0, 2.5], ["learned"] * K, ["optimal"] * K):
        assert torch.equal(Gaussian(K, sigma).mean(params), params)
