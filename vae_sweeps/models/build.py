"""Build a VAE from points."""

from collections.abc import Mapping, Sequence
from typing import Any

from vae_sweeps.config.schema import Point
from vae_sweeps.config.targets import instantiate_target
from vae_sweeps.models.layers import BatchNorm2d
from vae_sweeps.models.vae import VAE


def build_vae(points: Sequence[Point], image_shape: tuple[int, int, int]) -> VAE:
    """Build a VAE of K points without drawing its weights. Raises ValueError if network and images do not fit."""
    likelihoods = [point.likelihood for point in points]
    latents = [point.latent for point in points]
    vae = build_networks(latents, image_shape, points[0].arch, likelihoods, points[0].posterior)
    for module in vae.modules():
        if isinstance(module, BatchNorm2d):
            module.towers = points[0].towers
    return vae


def build_networks(
    latents: Sequence[int],
    image_shape: tuple[int, int, int],
    arch: Mapping[str, Any],
    likelihoods: Sequence[Mapping[str, Any]],
    posterior: str,
) -> VAE:
    num_models = len(latents)
    networks = instantiate_target(arch, num_models=num_models, image_shape=image_shape, latent=max(latents))
    stacked = {"sigma": [config["sigma"] for config in likelihoods]} if "sigma" in likelihoods[0] else {}
    likelihood = instantiate_target(likelihoods[0], num_models=num_models, **stacked)
    return VAE(networks, likelihood, latents, posterior)
