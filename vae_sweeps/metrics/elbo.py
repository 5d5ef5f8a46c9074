"""ELBO terms of a whole split, for K models at once."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vae_sweeps.data.dataset import Dataset, for_evaluation, to_model
from vae_sweeps.noise import generator
from vae_sweeps.vae import VAE

# Noise is drawn for blocks of this many images, so that it does not depend on the batch size.
_IMAGES_PER_DRAW = 512


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


def split_noise(seed: int, split: str, block: int, vae: VAE, num_images: int, like: Tensor) -> Float[Tensor, "K B L"]:
    """eps of a block of images: the same for every model of one latent size, whatever the pack; 0 in the padding."""
    eps = like.new_zeros(vae.num_models, num_images, max(vae.latents))
    for latent in set(vae.latents):
        draw = generator("evaluation", seed, split, block, latent, device=like.device)
        normals = torch.randn(_IMAGES_PER_DRAW, latent, generator=draw, device=like.device, dtype=like.dtype)
        for k in range(vae.num_models):
            if vae.latents[k] == latent:
                eps[k, :, :latent] = normals[:num_images]
    return eps


@torch.inference_mode()
def evaluate_split(
    vae: VAE, dataset: Dataset, split: str, *, seed: int, batch_size: int, dtype: torch.dtype
) -> SplitTerms:
    """Average over every image of `split` at one posterior sample each; sums are float64.

    The noise is a function of (seed, split, image, latent size): the same weights give the same numbers in any pack.
    """
    was_training = vae.training
    vae.eval()
    images = for_evaluation(dataset, split)
    num_images = len(images)
    sums: dict[str, Tensor] = {}
    for start in range(0, num_images, _IMAGES_PER_DRAW):
        block = images[start : start + _IMAGES_PER_DRAW]
        like = vae.heads.weight.new_empty(0, dtype=dtype)
        eps = split_noise(seed, split, start // _IMAGES_PER_DRAW, vae, len(block), like)
        for x, e in zip(block.split(batch_size), eps.split(batch_size, dim=1), strict=True):
            x = to_model(dataset, x, dtype)
            q = vae.encode(x)
            kl_per_latent = vae.kl_per_latent(q)
            log_px = vae.likelihood.log_prob(vae.decode(q.rsample(e)), x.flatten(1))  # type: ignore[operator]
            batch = {
                "log_px": log_px,
                "kl": kl_per_latent.sum(-1),
                "kl_per_latent": kl_per_latent,
                "mu": q.mu,
                "mu_squared": q.mu.double().square(),
            }
            for name, values in batch.items():
                total = values.double().sum(1)
                sums[name] = sums[name] + total if name in sums else total
    vae.train(was_training)
    mean = {name: (total / num_images).cpu() for name, total in sums.items()}
    variance = (mean["mu_squared"] - mean["mu"].square()).clamp(min=0)
    return SplitTerms(mean["log_px"], mean["kl"], mean["kl_per_latent"], variance)
