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

from vae_sweeps.evaluation.metrics.latent import active_units, information, is_collapsed, kl_per_latent, linear_probe


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


# Collapse


@pytest.mark.parametrize(
    ("num_active", "squared_error", "collapsed"),
    [(0, 0.0, True), (0, 100.0, True), (3, 10.0, False), (3, 98.9, False), (3, 99.1, True), (3, 150.0, True)],
)
def test_a_model_is_collapsed_without_active_units_or_without_a_percent_explained(
    num_active: int, squared_error: float, collapsed: bool
) -> None:
    assert is_collapsed(num_active, squared_error, 100.0) is collapsed


# The linear probe


def clusters(num_codes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four classes on the corners of a square of side 10 in three dimensions, with noise below 1."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_codes) % 4
    corners = 10 * np.stack([labels % 2, labels // 2, 0 * labels], 1)
    return corners + rng.uniform(-1, 1, (num_codes, 3)), labels


def test_separable_codes_are_classified_without_error() -> None:
    assert linear_probe(*clusters(200, 0), *clusters(100, 1)) == 1.0


def test_labels_that_are_independent_of_the_codes_are_right_by_chance() -> None:
    rng = np.random.default_rng(0)
    codes, labels = rng.standard_normal((4000, 5)), rng.integers(4, size=4000)
    accuracy = linear_probe(codes[:2000], labels[:2000], codes[2000:], labels[2000:])
    assert abs(accuracy - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 2000)


def test_the_probe_does_not_depend_on_the_scale_of_a_dimension() -> None:
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((600, 3))
    labels = (codes @ [1.0, 1.0, 0.2] + rng.standard_normal(600) > 0).astype(np.int64)
    accuracy = linear_probe(codes[:400], labels[:400], codes[400:], labels[400:])
    assert 0.6 < accuracy < 1
    scaled = codes * [1e-3, 1e4, 1] + [0, 50, -3]
    assert linear_probe(scaled[:400], labels[:400], scaled[400:], labels[400:]) == accuracy
