"""ELBO terms and the importance-weighted bound of a whole split, for K models at once, summed in float64."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps.data.dataset import Dataset, for_evaluation, to_model
from vae_sweeps.evaluation.batching import IMAGES_PER_DRAW, images_at_once, in_double
from vae_sweeps.models.vae import VAE, Posterior
from vae_sweeps.system.rng import generator

# Groups of importance samples that the jackknife leaves out in turn.
_NUM_GROUPS = 10


@dataclass(frozen=True)
class SplitTerms:
    """Means over a split: `log_px` and `kl` [K] in nats per image; `kl_per_latent` and `mu_variance` [K,L].

    `standard_error` [K] is that of the draws in `log_px`, and so in `elbo`, for these images; NaN for one sample.
    """

    log_px: Tensor
    kl: Tensor
    kl_per_latent: Tensor
    mu_variance: Tensor
    standard_error: Tensor

    @property
    def elbo(self) -> Float[Tensor, " K"]:
        return self.log_px - self.kl


@dataclass(frozen=True)
class ImportanceBound:
    """A lower bound of log p(x) of a split, and what its importance weights say about it, each [K].

    `bound` is in nats per image. `standard_error` is that of the draws, for these images and this number of samples S;
    NaN for one sample. `effective_samples` is the mean over the images of (sum w)^2 / sum w^2 (Kong 1992), from 1 to S,
    and `dominated` the share of images for which it is below 2. One weight then has more than half of the sum.
    """

    bound: Tensor
    standard_error: Tensor
    effective_samples: Tensor
    dominated: Tensor


def bits_per_dim(log_likelihood: float, num_pixels: int) -> float:
    """Nats per image as bits per pixel value. They mean something for probabilities, but not for densities."""
    return -log_likelihood / (num_pixels * math.log(2))


def is_density(likelihood: nn.Module) -> bool:
    """Whether log p(x|z) is a density of real pixels, by the likelihood's attribute of that name, False without it."""
    return getattr(likelihood, "is_density", False)


def split_noise(vae: VAE, num_images: int, like: Tensor, *key: str | int) -> Float[Tensor, "K B L"]:
    """eps for a block of images, a function of `key` and the latent size, not of the pack; padding is 0.

    It is drawn on the CPU, so that an evaluation on a GPU, whose generators draw other numbers, has the same columns.
    """
    eps = like.new_zeros(vae.num_models, num_images, max(vae.latents))
    for latent in set(vae.latents):
        draw = generator("evaluation", *key, latent)
        normals = torch.randn(IMAGES_PER_DRAW, latent, generator=draw, dtype=like.dtype).to(like.device)
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
    vae: VAE, dataset: Dataset, split: str, *, seed: int, batch_size: int, dtype: torch.dtype, num_samples: int = 1
) -> SplitTerms:
    """Average over every image of `split` at `num_samples` posterior samples each.

    The noise is a function of (seed, split, image, sample, latent size): the same weights give the same numbers in any
    pack. The first sample is the same for any number of samples.
    """
    was_training = vae.training
    batch_size = images_at_once(dataset.image_shape, batch_size)
    vae.eval()
    like = vae.heads.weight.new_empty(0, dtype=dtype)
    sums: dict[str, Tensor] = {}
    for block, batches in enumerate(_blocks(dataset, split, batch_size, like)):
        num_images = sum(map(len, batches))
        keys = [(seed, split, block), *((seed, split, block, s) for s in range(1, num_samples))]
        noises = [split_noise(vae, num_images, like, *key).split(batch_size, dim=1) for key in keys]
        for x, *draws in zip(batches, *noises, strict=True):
            q = vae.encode(x)
            kl_per_latent = vae.kl_per_latent(q)
            decoded = (vae.decode(q.rsample(eps)) for eps in draws)
            log_px, variance = _mean_and_variance([vae.likelihood.log_prob(p, x.flatten(1)) for p in decoded])  # type: ignore[operator]
            mu = in_double(q.mu)
            batch = {
                "log_px": log_px,
                "variance": variance,
                "kl": kl_per_latent.sum(-1),
                "kl_per_latent": kl_per_latent,
                "mu": mu,
                "mu_squared": mu.square(),
            }
            for name, values in batch.items():
                total = in_double(values).sum(1)
                sums[name] = sums[name] + total if name in sums else total
    vae.train(was_training)
    num_images = dataset.num_images(split)
    mean = {name: (total / num_images).cpu() for name, total in sums.items()}
    mu_variance = (mean["mu_squared"] - mean["mu"].square()).clamp(min=0)
    standard_error = (mean["variance"] / num_images).sqrt()
    return SplitTerms(mean["log_px"], mean["kl"], mean["kl_per_latent"], mu_variance, standard_error)


def _mean_and_variance(draws: list[Float[Tensor, "K B"]]) -> tuple[Float[Tensor, "K B"], Float[Tensor, "K B"]]:
    """Mean of the draws, and the unbiased estimate of that mean's variance; NaN for one draw."""
    values = in_double(torch.stack(draws))
    if len(draws) == 1:
        return values[0], torch.full_like(values[0], math.nan)
    return values.mean(0), values.var(0) / len(draws)


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

    One sample of one batch is in memory at a time. The standard error is that of the draws, for these images and this
    S, from a jackknife for each image, in which each of ten groups of samples is left out in turn (Efron & Stein 1981).
    It does not contain the bound's distance to log p(x), which falls as S grows. The noise is a
    function of (seed, split, image, sample, latent size).
    """
    was_training = vae.training
    batch_size = images_at_once(dataset.image_shape, batch_size)
    vae.eval()
    like = vae.heads.weight.new_empty(0, dtype=dtype)
    totals = torch.zeros(4, vae.num_models, dtype=torch.float64)
    for block, batches in enumerate(_blocks(dataset, split, batch_size, like)):
        posteriors = [vae.encode(x) for x in batches]
        num_images = sum(map(len, batches))
        num_groups = min(_NUM_GROUPS, num_samples)
        log_sum = in_double(like.new_full((vae.num_models, num_images), -math.inf))  # of the weights so far
        log_sum_of_squares, log_sums = log_sum.clone(), log_sum.repeat(num_groups, 1, 1)  # [K,B], [G,K,B]
        for s in range(num_samples):
            noise = split_noise(vae, num_images, like, seed, split, "importance", block, s)
            parts = zip(batches, posteriors, noise.split(batch_size, dim=1), strict=True)
            log_w = in_double(torch.cat([log_weight(vae, x, q, eps) for x, q, eps in parts], dim=1))
            log_sum = torch.logaddexp(log_sum, log_w)
            log_sum_of_squares = torch.logaddexp(log_sum_of_squares, 2 * log_w)
            log_sums[s % num_groups] = torch.logaddexp(log_sums[s % num_groups], log_w)
        effective = (2 * log_sum - log_sum_of_squares).exp().clamp(1, num_samples)
        of_images = [log_sum - math.log(num_samples), jackknife_variance(log_sums, num_samples), effective]
        of_images.append((effective < 2).double())
        totals += torch.stack(of_images).sum(2).cpu()
    vae.train(was_training)
    bound, variance, effective, dominated = totals / dataset.num_images(split)
    return ImportanceBound(bound, (variance / dataset.num_images(split)).sqrt(), effective, dominated)


def jackknife_variance(log_sums: Float[Tensor, "G K B"], num_samples: int) -> Float[Tensor, "K B"]:
    """The variance of log mean w, by leaving out each group in turn; NaN for one group.

    `log_sums` are the logarithms of the sums of the weights of G groups; sample s is in group s mod G.
    """
    num_groups = len(log_sums)
    if num_groups == 1:
        return torch.full_like(log_sums[0], math.nan)
    is_left_out = torch.eye(num_groups, dtype=torch.bool, device=log_sums.device)[:, :, None, None]
    kept = log_sums.expand(num_groups, *log_sums.shape).masked_fill(is_left_out, -math.inf).logsumexp(1)
    sizes = [len(range(g, num_samples, num_groups)) for g in range(num_groups)]
    num_kept = kept.new_tensor([num_samples - size for size in sizes])[:, None, None]
    return (num_groups - 1) * (kept - num_kept.log()).var(0, correction=0)
