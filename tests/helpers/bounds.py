"""The bound and the ELBO of a test split, with the settings that tests vary."""

import torch
from torch import Tensor

from tests.conftest import float_dataset
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.metrics.elbo import (
    ImportanceBound,
    SplitTerms,
    evaluate_split,
    importance_bound,
)
from vae_sweeps.models.vae import VAE


def as_test_split(x: Tensor) -> Dataset:
    return float_dataset(x[:2], x[:2], x)


def bound(
    vae: VAE,
    dataset: Dataset,
    num_samples: int,
    *,
    seed: int = 0,
    batch_size: int = 512,
    dtype: torch.dtype = torch.float64,
) -> ImportanceBound:
    return importance_bound(
        vae, dataset, "test", num_samples=num_samples, seed=seed, batch_size=batch_size, dtype=dtype
    )


def terms(
    vae: VAE,
    dataset: Dataset,
    *,
    seed: int = 0,
    batch_size: int = 512,
    dtype: torch.dtype = torch.float64,
    num_samples: int = 1,
) -> SplitTerms:
    return evaluate_split(vae, dataset, "test", seed=seed, batch_size=batch_size, dtype=dtype, num_samples=num_samples)
