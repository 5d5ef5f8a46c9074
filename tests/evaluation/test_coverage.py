"""The share of repeats whose interval of two standard errors holds the truth, for every error that a table prints.

The interval of a Gaussian estimate whose error is known holds it in 95.4 % of the repeats.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t
from torch import Tensor

from tests.conftest import make_point
from tests.helpers.training import train_points
from vae_sweeps.analysis.seeds import over
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.load import load_dataset
from vae_sweeps.evaluation.metrics.elbo import evaluate_split, importance_bound
from vae_sweeps.models.vae import VAE
from vae_sweeps.runs.run_folder import RunFolder

pytestmark = pytest.mark.slow
NUM_REPEATS = 200
HOW = {"batch_size": 512, "dtype": torch.float32}
BETAS = (0, 1)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """A hundred digits for each split but the training split, with 7x7 pixels."""
    whole = load_dataset(make_point().data)
    sizes = {"train": 500, "val": 100, "test": 100}
    images = {split: images[: sizes[split], :, ::4, ::4] for split, images in whole.images.items()}
    return replace(whole, images=images, labels=None, fingerprint="digits of 7x7 pixels")


@pytest.fixture(scope="module")
def vae(digits, tmp_path_factory) -> VAE:
    """A VAE of two trained points, with beta = 0, whose posteriors are too narrow for importance sampling, and 1."""
    points = [make_point("arch.hidden=[32]", "latent=5", "steps=400", f"beta={beta}") for beta in BETAS]
    folders = [RunFolder(tmp_path_factory.mktemp("run")) for _ in points]
    pack, outcomes = train_points(points, folders, digits)
    assert [outcome.status for outcome in outcomes] == ["done"] * 2
    return pack.vae


def coverage(found: list[tuple[Tensor, Tensor]]) -> list[float]:
    """Of estimates and errors [K] in repeats: the share for which the truth, their mean, is within two errors."""
    estimates, errors = (torch.stack(column) for column in zip(*found, strict=True))
    assert (errors > 0).all()
    return ((estimates - estimates.mean(0)).abs() < 2 * errors).double().mean(0).tolist()


@pytest.mark.parametrize("num_samples", [5, 20])
def test_the_bounds_error_covers_its_expectation(vae: VAE, digits, num_samples: int) -> None:
    """Also where a few weights dominate, at beta = 0. The expectation is that of this number of samples."""

    def one(seed: int) -> tuple[Tensor, Tensor]:
        found = importance_bound(vae, digits, "test", num_samples=num_samples, seed=seed, **HOW)
        return found.bound, found.standard_error

    found = importance_bound(vae, digits, "test", num_samples=20, seed=0, **HOW)
    assert found.dominated[BETAS.index(0)] > 0.1
    for beta, share in zip(BETAS, coverage([one(seed) for seed in range(NUM_REPEATS)]), strict=True):
        print(f"test/iwae_se, {num_samples} samples, beta={beta}: {share:.1%}")
        assert 0.9 <= share <= 0.98, beta


@pytest.mark.parametrize("num_samples", [2, 10])
def test_the_elbos_error_covers_its_expectation(vae: VAE, digits, num_samples: int) -> None:
    def one(seed: int) -> tuple[Tensor, Tensor]:
        found = evaluate_split(vae, digits, "test", num_samples=num_samples, seed=seed, **HOW)
        return found.elbo, found.standard_error

    for beta, share in zip(BETAS, coverage([one(seed) for seed in range(NUM_REPEATS)]), strict=True):
        print(f"test/elbo_se, {num_samples} samples, beta={beta}: {share:.1%}")
        assert 0.9 <= share <= 0.98, beta


def test_the_error_over_seeds_covers_the_mean_of_all_seeds(digits, in_folders) -> None:
    """Repeats are draws, with replacement, from 60 trained points. Few seeds need the factor of Student's t, not 2."""
    points = [make_point("arch.hidden=[16]", "latent=2", "steps=60", f"seed={seed}") for seed in range(60)]
    pack, _ = train_points(points, in_folders(len(points)), digits)
    elbo = evaluate_split(pack.vae, digits, "val", seed=0, **HOW).elbo.numpy()
    assert len(set(elbo)) == len(points)
    draw = np.random.default_rng(0)

    def share(num_seeds: int, factor: float) -> float:
        num_repeats = 2000
        repeats, seeds = np.indices((num_repeats, num_seeds)).reshape(2, -1)
        table = pd.DataFrame({"run": np.arange(len(seeds)).astype(str), "status": "done", "seed": seeds})
        table = table.assign(beta=repeats, **{"test/elbo": draw.choice(elbo, len(seeds))})
        means = over(table)
        assert len(means) == num_repeats
        return (abs(means["test/elbo"] - elbo.mean()) < factor * means["test/elbo/se"]).mean()

    for num_seeds in (3, 5, 10, 30):
        found, of_gaussian = share(num_seeds, 2), 2 * t.cdf(2, num_seeds - 1) - 1
        print(f"X/se, {num_seeds} seeds: {found:.1%}; {of_gaussian:.1%} if X is Gaussian")
        assert found == pytest.approx(of_gaussian, abs=0.03)
        assert 0.9 <= found <= 0.98 or num_seeds < 10
        assert 0.9 <= share(num_seeds, float(t.ppf(0.975, num_seeds - 1))) <= 0.98
