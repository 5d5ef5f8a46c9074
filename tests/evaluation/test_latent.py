"""Numbers of the latent space against closed forms, an independent Monte Carlo estimate and quadrature.

Sources: Hoffman & Johnson 2016 (the two parts of the KL); Burda et al. 2015 (active units); Tipping & Bishop 1999
(pPCA, whose aggregate posterior is the prior).
"""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import Tensor

from vae_sweeps.evaluation.metrics import latent
from vae_sweeps.evaluation.metrics.latent import (
    active_units,
    information,
    is_at_limit,
    is_collapsed,
    kl_per_latent,
    marginal_kl_bounds,
)


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whitened(num_images: int, num_latents: int) -> Tensor:
    """Normal draws whose mean is exactly 0 and whose covariance is exactly the identity."""
    x = normals(num_images, num_latents)
    u, _, v = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    return math.sqrt(num_images) * u @ v


def ppca_posterior(num_images: int, eigenvalues: Tensor, variance: float) -> tuple[Tensor, Tensor]:
    """mu_i = (lambda_i - sigma^2)^(1/2) / lambda_i u_i^T (x - mean), var_i = sigma^2 / lambda_i."""
    components = whitened(num_images, len(eigenvalues)) * eigenvalues.sqrt()
    mu = components * (eigenvalues - variance).sqrt() / eigenvalues
    return mu, (variance / eigenvalues).sqrt().expand_as(mu)


# KL and active units


def test_kl_and_active_units_of_ppca() -> None:
    eigenvalues = torch.tensor([4.0, 1.0, 0.2 / 0.985, 0.2 / 0.995, 0.2], dtype=torch.float64)
    mu, sigma = ppca_posterior(500, eigenvalues, 0.2)
    assert kl_per_latent(mu, sigma).tolist() == pytest.approx((0.5 * (eigenvalues / 0.2).log()).tolist(), abs=1e-12)
    variance = mu.var(0, correction=0)
    assert variance.tolist() == pytest.approx((1 - 0.2 / eigenvalues).tolist(), abs=1e-12)
    # Var(mu_i) = 1 - sigma^2 / lambda_i is 0.95, 0.8, 0.015, 0.005 and 0.
    assert active_units(variance) == 3
    assert active_units(torch.stack([variance, torch.zeros(5), variance.flip(0)])).tolist() == [3, 0, 3]
    assert active_units(variance, threshold=0.9) == 1


def test_kl_of_known_normals() -> None:
    mu = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    sigma = torch.tensor([[1.0, 1.0, math.exp(-1)]], dtype=torch.float64)
    assert kl_per_latent(mu, sigma).tolist() == pytest.approx([0, 0.5, 0.5676676], abs=1e-7)


# Information


def test_identical_posteriors_say_nothing_about_the_image() -> None:
    """q(z) = q(z|x): I = 0, and the aggregate's KL is that of q(z|x)."""
    mu = torch.tensor([0.5, -2.0, 0.0], dtype=torch.float64).expand(300, 3)
    sigma = torch.tensor([0.3, 1.5, 1.0], dtype=torch.float64).expand(300, 3)
    found = information(mu, sigma, normals(300, 3))
    assert found.mutual == pytest.approx(0, abs=1e-9)
    assert found.marginal_kl == pytest.approx(kl_per_latent(mu, sigma).sum().item(), abs=1e-9)


@pytest.mark.parametrize("sigma", [1e-2, 1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("size", [1, 10, 100])
def test_disjoint_posteriors_say_which_image_it_is(sigma: float, size: float) -> None:
    """I = ln N, however narrow the posteriors are and however far they are from the origin."""
    grid = torch.arange(5, dtype=torch.float64)
    mu = size * (torch.cartesian_prod(grid, grid, grid) - 2)  # [125,3], neighbours at least 100 sigma apart
    found = information(mu, torch.full_like(mu, sigma), normals(125, 3))
    assert found.mutual == pytest.approx(math.log(125), abs=1e-9)


@pytest.mark.parametrize(("sigma", "size"), [(0.01, 1), (0.01, 10), (1e-3, 10)])
def test_copies_of_an_image_count_as_one(sigma: float, size: float) -> None:
    mu = size * normals(40, 3)
    found = information(torch.cat([mu] * 3), torch.full((120, 3), sigma).double(), normals(120, 3, seed=1))
    assert found.mutual == pytest.approx(math.log(40), abs=1e-6)


def test_the_aggregate_posterior_of_ppca_is_the_prior() -> None:
    """So all of E KL = sum 1/2 ln(lambda_i / sigma^2) is mutual information, where it is far below ln N."""
    eigenvalues = torch.tensor([2.0, 1.5], dtype=torch.float64)
    mu, sigma = ppca_posterior(3000, eigenvalues, 1.0)
    draws = [information(mu, sigma, normals(3000, 2, seed=seed)) for seed in range(1, 9)]
    assert np.mean([draw.mutual for draw in draws]) == pytest.approx(0.5 * eigenvalues.log().sum().item(), abs=0.01)
    assert np.mean([draw.marginal_kl for draw in draws]) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_blocks_change_nothing(scale: float, monkeypatch) -> None:
    """Neither those of wide posteriors nor those of narrow ones, whose distances are computed directly."""
    mu, sigma, eps = normals(60, 3), scale * normals(60, 3, seed=1).exp(), normals(60, 3, seed=2)
    others = normals(50, 3, seed=3), scale * normals(50, 3, seed=4).exp()
    whole = information(mu, sigma, eps), marginal_kl_bounds(mu, sigma, eps, *others)
    monkeypatch.setattr(latent, "_TABLE_AT_ONCE", 7 * 60)  # blocks of 7 and 8 rows, and smaller last ones
    assert information(mu, sigma, eps) == pytest.approx(whole[0], rel=1e-12)
    assert marginal_kl_bounds(mu, sigma, eps, *others) == pytest.approx(whole[1], rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_parts_add_up_to_the_kl_for_any_noise(seed: int) -> None:
    mu, sigma = 2 * normals(200, 4, seed=seed), normals(200, 4, seed=seed + 10).exp()
    for eps in (normals(200, 4, seed=seed + 20), torch.zeros(200, 4).double(), torch.full((200, 4), 3.0).double()):
        assert sum(information(mu, sigma, eps)) == pytest.approx(kl_per_latent(mu, sigma).sum().item(), abs=1e-9)


@pytest.mark.parametrize("width", [1e-3, 0.1, 1.0, 10.0])
def test_mutual_information_is_at_most_ln_n(width: float) -> None:
    """It holds for every draw, not only on average: q(z) is at least q(z|x) / N."""
    for seed in range(20):
        mu, sigma = normals(30, 2, seed=seed), width * normals(30, 2, seed=seed + 100).exp()
        assert information(mu, sigma, 2 * normals(30, 2, seed=seed + 200)).mutual <= math.log(30) + 1e-12


def test_the_marginal_kl_agrees_with_an_independent_monte_carlo_estimate() -> None:
    mu, sigma = normals(150, 3) + 0.5, 0.5 * normals(150, 3, seed=1).mul(0.3).exp()
    draws = np.array([information(mu, sigma, normals(150, 3, seed=seed)).marginal_kl for seed in range(2, 202)])

    rng = np.random.default_rng(0)
    m, s = mu.numpy(), sigma.numpy()
    which = rng.integers(150, size=20_000)
    z = m[which] + s[which] * rng.standard_normal((20_000, 3))
    log_q = np.concatenate(
        [
            logsumexp(-0.5 * (((part[:, None] - m) / s) ** 2).sum(2) - np.log(s).sum(1), axis=1) - math.log(150)
            for part in np.split(z, 20)
        ]
    )
    ratio = log_q + 0.5 * np.square(z).sum(1)  # the 2 pi of both cancels
    error = math.hypot(ratio.std() / 20_000**0.5, draws.std() / 200**0.5)
    assert error < 0.02
    assert abs(draws.mean() - ratio.mean()) < 4 * error


def test_information_of_three_components_agrees_with_quadrature() -> None:
    """Copies of an image change neither q(z) nor I, so they can carry the quantiles of eps."""
    mu = torch.tensor([-1.0, 0.2, 2.0], dtype=torch.float64)
    sigma = torch.tensor([0.5, 0.3, 1.1], dtype=torch.float64)
    z = torch.linspace(-12, 14, 20_001, dtype=torch.float64)
    q_of_each = (-0.5 * ((z[:, None] - mu) / sigma).square()).exp() / (sigma * math.sqrt(2 * math.pi))
    q = q_of_each.mean(1)
    p = (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)
    step = (z[1] - z[0]).item()
    mutual = (torch.special.xlogy(q_of_each, q_of_each).mean(1) - torch.special.xlogy(q, q)).sum().item() * step
    marginal = (torch.special.xlogy(q, q) - torch.special.xlogy(q, p)).sum().item() * step
    assert 0.1 < mutual < math.log(3)

    quantiles = torch.special.ndtri((torch.arange(800, dtype=torch.float64) + 0.5) / 800)
    found = information(
        mu.repeat_interleave(800)[:, None], sigma.repeat_interleave(800)[:, None], quantiles.repeat(3)[:, None]
    )
    assert found.mutual == pytest.approx(mutual, abs=2e-3)
    assert found.marginal_kl == pytest.approx(marginal, abs=2e-3)


def test_information_does_not_depend_on_how_many_rows_are_held_at_once() -> None:
    """2,500 images are two blocks of rows; each image twice is the same mixture as once."""
    mu, sigma = normals(1250, 2), 0.3 * normals(1250, 2, seed=1).mul(0.2).exp()
    eps = normals(1250, 2, seed=2)
    once = information(mu, sigma, eps)
    twice = information(torch.cat([mu, mu]), torch.cat([sigma, sigma]), torch.cat([eps, eps]))
    assert twice == pytest.approx(once, abs=1e-9)


# Bounds for the distribution of the images


def bounds(mean: Tensor, covariance: Tensor, sigma: float, num: int, num_others: int) -> tuple[np.ndarray, np.ndarray]:
    """Bounds and `marginal_kl` [20 draws], for images with mu ~ N(mean, covariance) and one sigma."""
    num_latents, found = len(mean), []
    factor = torch.linalg.cholesky(covariance)
    for seed in range(20):
        mu, others = (
            mean + normals(n, num_latents, seed=s) @ factor.T for n, s in ((num, seed), (num_others, seed + 99))
        )
        width, eps = torch.full_like(mu, sigma), normals(num, num_latents, seed=seed + 999)
        both = marginal_kl_bounds(mu, width, eps, others, torch.full_like(others, sigma))
        found.append((*both, information(mu, width, eps).marginal_kl))
    found = np.array(found)
    return found.mean(0), found.std(0) / 20**0.5


def test_the_marginal_kl_of_a_q_that_is_the_prior_is_between_its_bounds() -> None:
    """mu ~ N(0, 1 - s^2), sigma = s: q(z) is N(0, I). At L = 10 and N = 1,000 `marginal_kl` alone gives 4.7 nats."""
    sigma = 0.31
    mean, covariance = torch.zeros(10).double(), (1 - sigma**2) * torch.eye(10).double()
    (lower, upper, few), (lower_error, _, few_error) = bounds(mean, covariance, sigma, 1000, 4000)
    assert few == pytest.approx(4.8, abs=0.1)  # 10 ln(1 / 0.31) - ln 1,000 = 4.80
    assert few_error < 0.1
    assert upper < few - 0.9  # at most ln(4,001 / 1,000) = 1.39 below it
    assert upper > 0
    assert lower == pytest.approx(0, abs=0.03 + 4 * lower_error)


@pytest.mark.parametrize("sigma", [0.5, 0.8])
def test_the_bounds_meet_at_the_marginal_kl_of_a_gaussian_q(sigma: float) -> None:
    """mu ~ N(m, C): q(z) = N(m, C + s^2 I), whose KL to N(0, I) is 1/2 (tr + |m|^2 - L - ln det)."""
    mean = torch.tensor([0.5, -1.0], dtype=torch.float64)
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
    q = covariance + sigma**2 * torch.eye(2, dtype=torch.float64)
    exact = 0.5 * (q.trace() + mean.square().sum() - 2 - torch.logdet(q)).item()
    (lower, upper, few), (lower_error, upper_error, _) = bounds(mean, covariance, sigma, 500, 4000)
    assert lower == pytest.approx(exact, abs=0.003 + 4 * lower_error)
    assert upper == pytest.approx(exact, abs=0.01 + 4 * upper_error)
    assert max(lower_error, upper_error) < 0.02
    assert upper < few


def test_the_lower_bound_stays_below_a_marginal_kl_that_no_gaussian_has() -> None:
    """Two clusters: by the Pythagorean relation the bound is KL(g || p), and KL(q || g) is missing."""
    corners = torch.tensor([[3.0], [-3.0]], dtype=torch.float64).repeat(500, 1)
    sigma = torch.full_like(corners, 0.5)
    z = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    density = sum(torch.distributions.Normal(m, 0.5).log_prob(z).exp() for m in (3.0, -3.0)) / 2
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z)
    exact = (torch.special.xlogy(density, density) - density * log_p).sum().item() * (z[1] - z[0]).item()
    found = marginal_kl_bounds(corners, sigma, normals(1000, 1), corners, sigma)
    assert found.lower == pytest.approx(0.5 * (9.25 - 1 - math.log(9.25)), abs=1e-9)
    assert found.lower < exact - 0.5
    assert found.upper == pytest.approx(exact, abs=0.05)


def test_codes_on_a_line_have_a_lower_bound() -> None:
    """The covariance of the others is singular up to rounding."""
    mu = normals(50, 1) @ torch.ones(1, 3).double()
    sigma = torch.full_like(mu, 1e-9)
    lower, upper = marginal_kl_bounds(mu, sigma, normals(50, 3, seed=1), mu.flip(0), sigma)
    assert math.isfinite(lower)
    assert lower < kl_per_latent(mu, sigma).sum()
    assert math.isfinite(upper)


def test_information_is_at_its_limit_within_a_nat_of_ln_n() -> None:
    assert is_at_limit(math.log(1000) - 0.9, 1000)
    assert not is_at_limit(math.log(1000) - 1.1, 1000)
    mu, eps = 10 * normals(200, 3), normals(200, 3, seed=1)
    assert is_at_limit(information(mu, torch.full_like(mu, 0.01), eps).mutual, 200)
    assert not is_at_limit(information(0.1 * mu, torch.ones_like(mu), eps).mutual, 200)


# Collapse


@pytest.mark.parametrize(
    ("num_active", "squared_error", "collapsed"),
    [(0, 0.0, True), (0, 100.0, True), (3, 10.0, False), (3, 98.9, False), (3, 99.1, True), (3, 150.0, True)],
)
def test_a_model_is_collapsed_without_active_units_or_without_a_percent_explained(
    num_active: int, squared_error: float, collapsed: bool
) -> None:
    assert is_collapsed(num_active, squared_error, 100.0) is collapsed
