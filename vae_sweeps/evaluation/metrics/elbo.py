"""ELBO terms and the importance-weighted bound of a whole split, for K models at once, summed in float64."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vae_sweeps.data.dataset import Dataset, for_evaluation, to_model
from vae_sweeps.evaluation.batching import IMAGES_PER_DRAW, images_at_once, in_double
from vae_sweeps.models.vae import VAE, Posterior
from vae_sweeps.system.rng import generator


@dataclass(frozen=True)
class SplitTerms:
    """Means over a split: `log_px` and `kl` [K] in nats per image; `kl_per_latent` and `mu_variance` [K,L]."""

    log_px: Tensor
    kl: Tensor
    kl_per_latent: Tensor
    mu_variance: Tensor

    @property
    def elbo(self) -> Float[Tensor, " K"]:
        return self.log_px - self.kl


@dataclass(frozen=True)
class ImportanceBound:
    """A lower bound of log p(x) in nats per image, averaged over a split, and the standard error of its noise, [K]."""

    bound: Tensor
    standard_error: Tensor


def bits_per_dim(log_likelihood: float, num_pixels: int) -> float:
    """Nats per image as bits per pixel value; for the Gaussian likelihood they are those of a density."""
    return -log_likelihood / (num_pixels * math.log(2))


def split_noise(vae: VAE, num_images: int, like: Tensor, *key: str | int) -> Float[Tensor, "K B L"]:
    """eps for a block of images, a function of `key` and the latent size, not of the pack; padding is 0."""
    eps = like.new_zeros(vae.num_models, num_images, max(vae.latents))
    for latent in set(vae.latents):
        draw = generator("evaluation", *key, latent, device=like.device)
        normals = torch.randn(IMAGES_PER_DRAW, latent, generator=draw, device=like.device, dtype=like.dtype)
        for k in range(vae.num_models):
            if vae.latents[k] == latent:
                eps[k, :, :latent] = normals[:num_images]
    return eps


def _blocks(dataset: Dataset, split: str, batch_size: int, like: Tensor) -> Iterator[list[Tensor]]:
    """For each block of images that shares a noise draw, its batches x [B,C,H,W] on the model's scale."""
    for images in for_evaluation(dataset, split).split(IMAGES_PER_DRAW):
        yield [to_model(dataset, batch.to(like.device), like.dtype) for batch in images.split(batch_size)]


@torch.inference_mode()
def evaluate_split(
    vae: VAE, dataset: Dataset, split: str, *, seed: int, batch_size: int, dtype: torch.dtype
) -> SplitTerms:
    """Average over every image of `split` at one posterior sample each.

    The noise is a function of (seed, split, image, latent size): the same weights give the same numbers in any pack.
    """
    was_training = vae.training
    batch_size = images_at_once(dataset.image_shape, batch_size)
    vae.eval()
    like = vae.heads.weight.new_empty(0, dtype=dtype)
    sums: dict[str, Tensor] = {}
    for block, batches in enumerate(_blocks(dataset, split, batch_size, like)):
        noise = split_noise(vae, sum(map(len, batches)), like, seed, split, block)
        for x, eps in zip(batches, noise.split(batch_size, dim=1), strict=True):
            q = vae.encode(x)
            kl_per_latent = vae.kl_per_latent(q)
            log_px = vae.likelihood.log_prob(vae.decode(q.rsample(eps)), x.flatten(1))  # type: ignore[operator]
            mu = in_double(q.mu)
            batch = {
                "log_px": log_px,
                "kl": kl_per_latent.sum(-1),
                "kl_per_latent": kl_per_latent,
                "mu": mu,
                "mu_squared": mu.square(),
            }
            for name, values in batch.items():
                total = in_double(values).sum(1)
                sums[name] = sums[name] + total if name in sums else total
    vae.train(was_training)
    mean = {name: (total / dataset.num_images(split)).cpu() for name, total in sums.items()}
    variance = (mean["mu_squared"] - mean["mu"].square()).clamp(min=0)
    return SplitTerms(mean["log_px"], mean["kl"], mean["kl_per_latent"], variance)


def log_weight(vae: VAE, x: Float[Tensor, "B C H W"], q: Posterior, eps: Tensor) -> Float[Tensor, "K B"]:
    """log p(x|z) + log p(z) - log q(z|x) at z = mu + sigma eps (Burda et al. 2015, eq. 8), eps [K,B,L]."""
    z = q.rsample(eps)
    log_px = vae.likelihood.log_prob(vae.decode(z), x.flatten(1))  # type: ignore[operator]
    # The normal densities' constants cancel; padding has z = eps = log_sigma = 0.
    return log_px + (0.5 * (eps.square() - z.square()) + q.log_sigma).sum(-1)


@torch.inference_mode()
def importance_bound(
    vae: VAE, dataset: Dataset, split: str, *, num_samples: int, seed: int, batch_size: int, dtype: torch.dtype
) -> ImportanceBound:
    """L_S, the mean over `split` of log 1/S sum_s w_s with S = `num_samples` (Burda et al. 2015, eq. 8).

    One sample of one batch is in memory at a time. The standard error is that of the draws, by the delta method:
    Var(log mean w) = Var(w) / (S mean(w)^2); NaN for S = 1, where it cannot be estimated. It is too small if a
    few weights dominate. The noise is a function of (seed, split, image, sample, latent size).
    """
    was_training = vae.training
    batch_size = images_at_once(dataset.image_shape, batch_size)
    vae.eval()
    like = vae.heads.weight.new_empty(0, dtype=dtype)
    bound = torch.zeros(vae.num_models, dtype=torch.float64)
    variance = torch.zeros(vae.num_models, dtype=torch.float64)
    for block, batches in enumerate(_blocks(dataset, split, batch_size, like)):
        posteriors = [vae.encode(x) for x in batches]
        log_sum, log_sum_of_squares = None, None  # of the weights so far, [K,B]
        for s in range(num_samples):
            noise = split_noise(vae, sum(map(len, batches)), like, seed, split, "importance", block, s)
            parts = zip(batches, posteriors, noise.split(batch_size, dim=1), strict=True)
            log_w = in_double(torch.cat([log_weight(vae, x, q, eps) for x, q, eps in parts], dim=1))
            if log_sum is None or log_sum_of_squares is None:
                log_sum, log_sum_of_squares = log_w, 2 * log_w
            else:
                log_sum = torch.logaddexp(log_sum, log_w)
                log_sum_of_squares = torch.logaddexp(log_sum_of_squares, 2 * log_w)
        assert log_sum is not None
        assert log_sum_of_squares is not None
        bound += (log_sum - math.log(num_samples)).sum(1).cpu()
        # S sum w^2 / (sum w)^2 - 1 is the weights' relative variance; division by S - 1 makes it unbiased.
        spread = (math.log(num_samples) + log_sum_of_squares - 2 * log_sum).expm1().clamp(min=0)
        variance += spread.sum(1).cpu() / (num_samples - 1) if num_samples > 1 else math.nan
    vae.train(was_training)
    num_images = dataset.num_images(split)
    return ImportanceBound(bound / num_images, variance.sqrt() / num_images)
