"""A linear VAE has exact answers: probabilistic PCA, and reverse water-filling for a sweep of beta.

Sources: Tipping & Bishop 1999 (pPCA); Lucas et al. 2019 (linear VAEs reach it); Cover & Thomas 2006, ch. 10.3.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch

from tests.conftest import float_dataset, make_point
from tests.helpers.training import CPU, runs_of
from vae_sweeps.analysis.notebook import gaussian_squared_error
from vae_sweeps.config.schema import Point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.metrics.elbo import evaluate_split
from vae_sweeps.evaluation.metrics.latent import active_units
from vae_sweeps.evaluation.metrics.linear_vae import at_level, at_rate
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.training.loop import NoObserver, TrainOptions, train
from vae_sweeps.training.pack import Pack

EIGENVALUES = torch.tensor([4.0, 2.5, 1.5, 0.8, 0.3, 0.2, 0.1, 0.05], dtype=torch.float64)
NUM_LATENTS = 4
TRAINING = ["arch.hidden=[]", "likelihood=gaussian", f"latent={NUM_LATENTS}", "precision=fp64", "batch_size=1000"]
TRAINING += [
    "epochs=2000",
    "optim.lr=0.05",
    "optim.lr_decay_per_epoch=0.9965",
    "optim.betas=[0.9,0.99]",
]


@pytest.fixture(scope="module")
def data() -> torch.Tensor:
    """1,000 centred vectors whose covariance has exactly the eigenvalues above, in a random basis."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, len(EIGENVALUES), generator=generator, dtype=torch.float64)
    u, _, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    basis, _ = torch.linalg.qr(
        torch.randn(len(EIGENVALUES), len(EIGENVALUES), generator=generator, dtype=torch.float64)
    )
    return math.sqrt(len(x)) * u * EIGENVALUES.sqrt() @ basis.T


# The noise that pPCA finds: the mean of the discarded eigenvalues.
VARIANCE = EIGENVALUES[NUM_LATENTS:].mean().item()
SIGMA, BETAS = 0.3, [0.0, 0.5, 1.0, 4.0, 12.0, 22.0, 60.0]
# (beta, sigma) of every point that the tests below look at; they are trained as one pack.
POINTS = [*((beta, SIGMA) for beta in BETAS), (1.0, 2 * SIGMA), (1.0, math.sqrt(VARIANCE))]


def trained_pack(points: Sequence[Point], folders: Sequence[RunFolder], dataset: Dataset) -> Pack:
    """Train without rows: each of these epochs of one step would write one, a third of the time."""
    pack = Pack(runs_of(points, folders, dataset), dataset.image_shape, CPU)
    train(pack, dataset, TrainOptions(), NoObserver())
    return pack


class Terms(NamedTuple):
    """On the training data, log_px and KL averaged over 160 posterior samples of each vector."""

    log_px: torch.Tensor
    kl: torch.Tensor
    num_active: int


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> dict[tuple[float, float], Terms]:
    points = [replace(make_point(*TRAINING, f"likelihood.sigma={sigma}"), beta=beta) for beta, sigma in POINTS]
    folders = [RunFolder(tmp_path_factory.mktemp("run")) for _ in points]
    dataset = float_dataset(data, data[:10], data[:10])
    pack = trained_pack(points, folders, dataset)
    draws = [
        evaluate_split(pack.vae, dataset, "train", seed=seed, batch_size=512, dtype=torch.float64)
        for seed in range(160)
    ]
    log_px, kl = (torch.stack([getattr(d, name) for d in draws]).mean(0) for name in ("log_px", "kl"))
    num_active = active_units(draws[0].mu_variance).tolist()
    return {point: Terms(log_px[k], kl[k], num_active[k]) for k, point in enumerate(POINTS)}


def test_linear_vae_reaches_the_ppca_likelihood(trained) -> None:
    num_pixels = len(EIGENVALUES)
    kept = EIGENVALUES[:NUM_LATENTS]
    log_det = kept.log().sum() + (num_pixels - NUM_LATENTS) * math.log(VARIANCE)
    exact = -0.5 * (num_pixels * math.log(2 * math.pi) + log_det + num_pixels)

    log_px, kl, _ = trained[1.0, math.sqrt(VARIANCE)]
    assert (log_px - kl).item() == pytest.approx(exact.item(), abs=0.02)
    # KL_i = 1/2 ln(lambda_i / sigma^2)
    assert kl.item() == pytest.approx(0.5 * (kept / VARIANCE).log().sum().item(), rel=0.02)


@pytest.mark.slow
def test_learned_and_optimal_sigma_find_ppcas_noise(data, in_folders) -> None:
    """At the optimum sigma^2 is the mean of the discarded eigenvalues (Tipping & Bishop 1999, eq. 8)."""
    points = [make_point(*TRAINING, f"likelihood.sigma={kind}") for kind in ("learned", "optimal")]
    for point in points:
        dataset = float_dataset(data, data[:10], data[:10])
        pack = trained_pack([point], in_folders(1, str(point.likelihood["sigma"])), dataset)
        variance = pack.vae.likelihood.sigma.item() ** 2  # type: ignore[operator, union-attr]
        assert variance == pytest.approx(VARIANCE, rel=0.02)


def test_sweep_of_beta_follows_reverse_water_filling(trained) -> None:
    betas = BETAS[1:]
    levels = SIGMA**2 * torch.tensor(betas, dtype=torch.float64)
    exact = at_level(EIGENVALUES, levels, NUM_LATENTS)
    log_px, kl = (torch.stack([getattr(trained[beta, SIGMA], name) for beta in betas]) for name in ("log_px", "kl"))
    squared_error = torch.from_numpy(gaussian_squared_error(log_px.numpy(), SIGMA, len(EIGENVALUES)))
    for k, level in enumerate(levels):
        assert kl[k].item() == pytest.approx(exact.rate[k].item(), rel=0.02, abs=0.002)
        assert squared_error[k].item() == pytest.approx(exact.squared_error[k].item(), rel=0.02)
        assert trained[betas[k], SIGMA].num_active == (EIGENVALUES[:NUM_LATENTS] > level).sum()
    # 160 draws for each of 1,000 images: far nearer than this.
    assert (squared_error > 0.999 * at_rate(EIGENVALUES, kl, NUM_LATENTS).squared_error).all()


def test_beta_and_sigma_share_their_optimum(trained) -> None:
    """(beta, sigma) and (1, sqrt(beta) sigma) have the same loss up to a factor, so the same rate and error."""
    assert trained[4.0, SIGMA].kl.item() == pytest.approx(trained[1.0, 2 * SIGMA].kl.item(), rel=0.01)


def test_without_kl_the_error_is_pcas_and_the_rate_the_largest(trained) -> None:
    error = gaussian_squared_error(trained[0.0, SIGMA].log_px.item(), SIGMA, len(EIGENVALUES)).item()
    assert error == pytest.approx(EIGENVALUES[NUM_LATENTS:].sum().item(), rel=0.02)
    assert trained[0.0, SIGMA].kl > trained[0.5, SIGMA].kl
