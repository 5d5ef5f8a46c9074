"""What the rows of metrics.jsonl say of each point: the terms of the ELBO in nats per image, and the training loss."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from vae_sweeps.config.schema import Point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.metrics.elbo import bits_per_dim, evaluate_split
from vae_sweeps.models.vae import VAE, Terms
from vae_sweeps.training import objective

_KL_DECIMALS = 6  # for a histogram


def of_training(trace: Tensor, batch_sizes: Sequence[int], image_shape: Sequence[int]) -> list[dict[str, Any]]:
    """Averages per image over the trace [n,3,K], one row a point: a small last batch counts by its images."""
    sizes = torch.tensor(batch_sizes, dtype=torch.float64)
    log_px, kl = (trace[:, :2].double().sum(0) / sizes.sum()).tolist()
    loss = (trace[:, 2].double() * (sizes / sizes.sum()).unsqueeze(1)).sum(0).tolist()
    return [
        {
            "train/elbo": log_px[k] - kl[k],
            "train/log_px": log_px[k],
            "train/kl": kl[k],
            "train/loss": loss[k],
            "train/bits_per_dim": bits_per_dim(log_px[k] - kl[k], prod(image_shape)),
        }
        for k in range(trace.shape[-1])
    ]


def add_validation(
    rows: Sequence[dict[str, Any]],
    vae: VAE,
    points: Sequence[Point],
    dataset: Dataset,
    weights: objective.Weights,
    step: int,
) -> None:
    """Add the validation split's terms after `step` steps, and the loss with the weights of the last of them.

    `val/kl_per_latent` are the point's own latents' shares of `val/kl`, without a pack's padding, in nats.
    """
    first, dtype = points[0], weights.scale.dtype
    evaluation = first.evaluation
    val = evaluate_split(vae, dataset, "val", seed=evaluation.seed, batch_size=evaluation.batch_size, dtype=dtype)
    to_weights = {"device": weights.scale.device, "dtype": dtype}
    means = Terms(val.log_px.unsqueeze(1).to(**to_weights), val.kl.unsqueeze(1).to(**to_weights))
    # The loss is linear in the two terms, so the loss of their means is the mean of the loss.
    loss = weights.loss(means, step - 1) * (first.batch_size if weights.sums_over_batch else 1)
    columns = (val.elbo, val.log_px, val.kl, loss, val.kl_per_latent)
    values = zip(*(column.tolist() for column in columns), strict=True)
    for row, point, (elbo, log_px, kl, mean_loss, kl_per_latent) in zip(rows, points, values, strict=True):
        row |= {
            "val/elbo": elbo,
            "val/log_px": log_px,
            "val/kl": kl,
            "val/loss": mean_loss,
            "val/bits_per_dim": bits_per_dim(elbo, prod(dataset.image_shape)),
            "val/kl_per_latent": [round(nats, _KL_DECIMALS) for nats in kl_per_latent[: point.latent]],
        }
