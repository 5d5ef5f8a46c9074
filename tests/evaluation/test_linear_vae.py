"""The linear VAE's exact curve, against the optimum of each decoder by hand."""

import torch

from vae_sweeps.analysis.notebook import gaussian_log_px, gaussian_squared_error
from vae_sweeps.evaluation.metrics.linear_vae import at_level, at_rate, spectrum

EIGENVALUES = torch.tensor([4.0, 2.5, 1.5, 0.8, 0.3, 0.2, 0.1, 0.05], dtype=torch.float64)
LATENT = 4


def best_encoder(decoder: torch.Tensor, level: float) -> tuple[float, float]:
    """Rate and squared error, where x has the covariance diag(EIGENVALUES), of W z with W [D,L] and the best q(z|x).

    Given x, |x - W z|^2 / (2 theta) + KL(q || N(0, I)) is least for q = N(M^-1 W^T x, theta M^-1), M = W^T W + theta I
    (Tipping & Bishop 1999, eq. 6).
    """
    identity = torch.eye(decoder.shape[1], dtype=torch.float64)
    posterior = torch.linalg.inv(decoder.T @ decoder + level * identity)
    to_mean = posterior @ decoder.T
    covariance = EIGENVALUES.diag()
    left_over = torch.eye(len(EIGENVALUES), dtype=torch.float64) - decoder @ to_mean
    error = (left_over @ covariance @ left_over.T).trace() + level * (decoder @ posterior @ decoder.T).trace()
    mean_squares = (to_mean @ covariance @ to_mean.T).trace()
    kl = 0.5 * (level * posterior.trace() + mean_squares - len(identity) - torch.logdet(level * posterior))
    return kl.item(), error.item()


def test_the_ppca_decoder_is_on_the_curve() -> None:
    """W = U (Lambda - theta I)^1/2 over the eigenvalues above theta (Tipping & Bishop 1999, eq. 7)."""
    for level in (0.01, 0.3, 0.9, 2.0, 3.9, 5.0):
        decoder = torch.zeros(len(EIGENVALUES), LATENT, dtype=torch.float64)
        decoder[range(LATENT), range(LATENT)] = (EIGENVALUES[:LATENT] - level).clamp(min=0).sqrt()
        rate, error = best_encoder(decoder, level)
        expected = torch.tensor([[rate], [error]], dtype=torch.float64)
        torch.testing.assert_close(torch.stack(at_level(EIGENVALUES, torch.tensor([level]).double(), LATENT)), expected)


def test_no_decoder_with_its_best_encoder_is_below_the_curve() -> None:
    draw = torch.Generator().manual_seed(0)
    for _ in range(200):
        scale, level = torch.rand(2, generator=draw, dtype=torch.float64) * 3
        decoder = scale * torch.randn(len(EIGENVALUES), LATENT, generator=draw, dtype=torch.float64)
        rate, error = best_encoder(decoder, level.item())
        least = at_rate(EIGENVALUES, torch.tensor([rate], dtype=torch.float64), LATENT).squared_error.item()
        assert error > least


def test_by_rate_and_by_level_are_one_curve() -> None:
    for latent in (1, LATENT, len(EIGENVALUES)):
        found = at_level(EIGENVALUES, torch.logspace(-3, 0.59, 50, dtype=torch.float64), latent)
        torch.testing.assert_close(at_rate(EIGENVALUES, found.rate, latent).squared_error, found.squared_error)


def test_the_curve_begins_at_the_variance_and_its_slope_is_the_water_level() -> None:
    rates = torch.linspace(0, 8, 4001, dtype=torch.float64)
    error = at_rate(EIGENVALUES, rates, LATENT).squared_error
    assert torch.isclose(error[0], EIGENVALUES.sum())
    slope = error.diff() / rates.diff()
    assert (slope < 0).all()
    assert (slope.diff() > 0).all()  # convex: so the tangents, which are minima, bound it from below
    level = torch.tensor([0.5], dtype=torch.float64)
    rate = at_level(EIGENVALUES, level, LATENT).rate
    at = int(torch.searchsorted(rates, rate))
    assert torch.isclose(slope[at - 1], -2 * level, rtol=1e-2).all()


def test_the_spectrum_is_that_of_the_covariance() -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(50, 1, 2, 3, generator=draw) + 3
    found = spectrum(images)
    covariance = torch.cov(images.flatten(1).double().T, correction=0)
    assert (found.diff() <= 0).all()
    torch.testing.assert_close(found.sum(), covariance.trace())
    torch.testing.assert_close(found.log().sum(), torch.logdet(covariance))


def test_squared_error_and_log_likelihood_agree() -> None:
    """Against the product of normal densities."""
    x, mean, sigma = torch.arange(6).double(), torch.ones(6).double(), 0.7
    log_px = torch.distributions.Normal(mean, sigma).log_prob(x).sum().item()
    squared_error = (x - mean).square().sum().item()
    assert abs(gaussian_log_px(squared_error, sigma, 6) - log_px) < 1e-12
    assert abs(gaussian_squared_error(log_px, sigma, 6) - squared_error) < 1e-12
