"""A linear VAE has exact answers: probabilistic PCA, and reverse water-filling for a sweep of beta.

Sources: Tipping & Bishop 1999 (pPCA); Lucas et al. 2019 (linear VAEs reach it); Cover & Thomas 2006, ch. 10.3.
"""

import math
from dataclasses import replace

import pytest
import torch

from tests.conftest import float_dataset, make_point
from tests.helpers.training import train_points
from vae_sweeps.analysis.notebook import gaussian_squared_error
from vae_sweeps.config.schema import Point
from vae_sweeps.evaluation.metrics.elbo import SplitTerms, evaluate_split
from vae_sweeps.evaluation.metrics.latent import active_units
from vae_sweeps.evaluation.metrics.linear_vae import at_level, at_rate

EIGENVALUES = torch.tensor([4.0, 2.5, 1.5, 0.8, 0.3, 0.2, 0.1, 0.05], dtype=torch.float64)
NUM_LATENTS = 4
TRAINING = ["arch.hidden=[]", "likelihood=gaussian", f"latent={NUM_LATENTS}", "precision=fp64", "batch_size=2000"]
TRAINING += [
    "epochs=4000",
    "optim.lr=0.05",
    "optim.lr_decay_per_epoch=0.998",
    "optim.betas=[0.9,0.99]",
    "log_every_steps=10000",
]


@pytest.fixture(scope="module")
def data() -> torch.Tensor:
    """2,000 centred vectors whose covariance has exactly the eigenvalues above, in a random basis."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, len(EIGENVALUES), generator=generator, dtype=torch.float64)
    u, _, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    basis, _ = torch.linalg.qr(
        torch.randn(len(EIGENVALUES), len(EIGENVALUES), generator=generator, dtype=torch.float64)
    )
    return math.sqrt(len(x)) * u * EIGENVALUES.sqrt() @ basis.T


def trained_terms(points: list[Point], data: torch.Tensor, folders) -> tuple[SplitTerms, torch.Tensor, torch.Tensor]:
    """Terms on the training data, averaged over 80 posterior samples each; mean log_px and KL."""
    dataset = float_dataset(data, data[:10], data[:10])
    pack, _ = train_points(points, folders, dataset)
    draws = [
        evaluate_split(pack.vae, dataset, "train", seed=seed, batch_size=512, dtype=torch.float64) for seed in range(80)
    ]
    return draws[0], torch.stack([d.log_px for d in draws]).mean(0), torch.stack([d.kl for d in draws]).mean(0)


def test_linear_vae_reaches_the_ppca_likelihood(data, in_folders) -> None:
    discarded = EIGENVALUES[NUM_LATENTS:]
    variance = discarded.mean()
    num_pixels = len(EIGENVALUES)
    log_det = EIGENVALUES[:NUM_LATENTS].log().sum() + len(discarded) * variance.log()
    exact = -0.5 * (num_pixels * math.log(2 * math.pi) + log_det + num_pixels)

    point = make_point(*TRAINING, f"likelihood.sigma={math.sqrt(variance)}")
    _, log_px, kl = trained_terms([point], data, in_folders(1))
    assert (log_px - kl).item() == pytest.approx(exact.item(), abs=0.02)
    # KL_i = 1/2 ln(lambda_i / sigma^2)
    assert kl.item() == pytest.approx(0.5 * (EIGENVALUES[:NUM_LATENTS] / variance).log().sum().item(), rel=0.02)


@pytest.mark.slow
def test_learned_and_optimal_sigma_equal_ppcas_noise(data, in_folders) -> None:
    """At the optimum sigma^2 is the mean of the discarded eigenvalues (Tipping & Bishop 1999, eq. 8)."""
    points = [make_point(*TRAINING, f"likelihood.sigma={kind}") for kind in ("learned", "optimal")]
    for point in points:
        dataset = float_dataset(data, data[:10], data[:10])
        pack, _ = train_points([point], in_folders(1, str(point.likelihood["sigma"])), dataset)
        variance = pack.vae.likelihood.sigma.item() ** 2  # type: ignore[operator, union-attr]
        assert variance == pytest.approx(EIGENVALUES[NUM_LATENTS:].mean().item(), rel=0.02)


def test_sweep_of_beta_follows_reverse_water_filling(data, in_folders) -> None:
    sigma, betas = 0.3, [0.5, 1.0, 4.0, 12.0, 22.0, 60.0]
    points = [replace(make_point(*TRAINING, f"likelihood.sigma={sigma}"), beta=beta) for beta in betas]
    terms, log_px, kl = trained_terms(points, data, in_folders(len(points)))
    levels = sigma**2 * torch.tensor(betas, dtype=torch.float64)
    exact = at_level(EIGENVALUES, levels, NUM_LATENTS)
    squared_error = torch.from_numpy(gaussian_squared_error(log_px.numpy(), sigma, len(EIGENVALUES)))
    for k, level in enumerate(levels):
        assert kl[k].item() == pytest.approx(exact.rate[k].item(), rel=0.02, abs=0.002)
        assert squared_error[k].item() == pytest.approx(exact.squared_error[k].item(), rel=0.02)
        assert active_units(terms.mu_variance)[k] == (EIGENVALUES[:NUM_LATENTS] > level).sum()
    # With 80 draws for each of 2,000 images the error is much smaller than this.
    assert (squared_error > 0.999 * at_rate(EIGENVALUES, kl, NUM_LATENTS).squared_error).all()


def test_scaling_beta_is_equivalent_to_scaling_sigma(data, in_folders) -> None:
    """(beta, sigma) and (1, sqrt(beta) sigma) have the same loss up to a factor, so the same rate and error."""
    base = make_point(*TRAINING, "likelihood.sigma=0.3")
    other = make_point(*TRAINING, "likelihood.sigma=0.6")
    _, _, kl = trained_terms([replace(base, beta=4.0), replace(other, beta=1.0)], data, in_folders(2))
    assert kl[0].item() == pytest.approx(kl[1].item(), rel=0.01)


def test_without_kl_the_error_equals_pcas_and_the_rate_is_the_largest(data, in_folders) -> None:
    sigma = 0.3
    points = [replace(make_point(*TRAINING, f"likelihood.sigma={sigma}"), beta=beta) for beta in (0.0, 0.5)]
    _, log_px, kl = trained_terms(points, data, in_folders(2))
    error = gaussian_squared_error(log_px[0].item(), sigma, len(EIGENVALUES)).item()
    assert error == pytest.approx(EIGENVALUES[NUM_LATENTS:].sum().item(), rel=0.02)
    assert kl[0] > kl[1]
