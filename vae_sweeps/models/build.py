"""Build a VAE from points."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from vae_sweeps.config import trust
from vae_sweeps.config.schema import OF_EACH, Point
from vae_sweeps.config.targets import instantiate_target
from vae_sweeps.models.architecture import Networks
from vae_sweeps.models.layers import BatchNorm2d
from vae_sweeps.models.own import OWN_PAIR, is_for_many, own_likelihood, own_networks
from vae_sweeps.models.vae import VAE
from vae_sweeps.system.rng import seeded


def build_vae(points: Sequence[Point], image_shape: tuple[int, int, int]) -> VAE:
    """Build a VAE of K points without drawing its weights. Raises ValueError if network and images do not fit.

    The user's own parts draw their weights themselves: those of a VAE of one point are functions of its seed.
    """
    likelihoods = [point.likelihood for point in points]
    latents = [point.latent for point in points]
    vae = build_networks(latents, image_shape, points[0].arch, likelihoods, points[0].posterior, points[0].seed)
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
    seed: int = 0,
) -> VAE:
    is_own = has_own_networks(arch) or has_own_likelihood(likelihoods[0])
    with seeded("own weights", seed) if is_own else contextlib.nullcontext():
        likelihood = _likelihood(likelihoods, image_shape)
        networks = _networks(arch, latents, image_shape, getattr(likelihood, "params_per_pixel", 1))
    return VAE(networks, likelihood, latents, posterior)


def has_own_networks(arch: Mapping[str, Any]) -> bool:
    """Whether the networks are of the user's own."""
    return arch.get("_target_") == OWN_PAIR or arch.get("_target_") not in trust.OWN


def has_own_likelihood(likelihood: Mapping[str, Any]) -> bool:
    """Whether the likelihood is of the user's own."""
    return likelihood.get("_target_") not in trust.OWN


def has_likelihood_of_one(likelihood: Mapping[str, Any]) -> bool:
    """Whether the likelihood is of the user's own and of one model, so that its keys are those of all its copies."""
    return has_own_likelihood(likelihood) and not is_for_many(str(likelihood.get("_target_")))


def has_fixed_latents(arch: Mapping[str, Any]) -> bool:
    """Whether the networks cannot be padded to more latents: those of one model, which are the user's own."""
    return has_own_networks(arch) and (arch["_target_"] == OWN_PAIR or not is_for_many(str(arch["_target_"])))


def _networks(
    arch: Mapping[str, Any], latents: Sequence[int], image_shape: tuple[int, int, int], params_per_pixel: int
) -> Networks:
    num_models, latent = len(latents), max(latents)
    if arch.get("_target_") not in trust.OWN:
        return own_networks(arch, num_models, image_shape, latent, params_per_pixel)
    return instantiate_target(
        arch, num_models=num_models, image_shape=image_shape, latent=latent, params_per_pixel=params_per_pixel
    )


def _likelihood(likelihoods: Sequence[Mapping[str, Any]], image_shape: tuple[int, int, int]) -> nn.Module:
    num_models = len(likelihoods)
    if has_likelihood_of_one(likelihoods[0]):
        return own_likelihood(likelihoods[0], num_models, image_shape)
    stacked = {name: [config[name] for config in likelihoods] for name in OF_EACH if name in likelihoods[0]}
    return instantiate_target(likelihoods[0], num_models=num_models, **stacked)
