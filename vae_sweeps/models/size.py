"""How large a point's model is: its parameters and its activations."""

import json
from functools import lru_cache
from typing import Any

import torch

from vae_sweeps.config.schema import Point
from vae_sweeps.models.build import build_networks
from vae_sweeps.models.vae import VAE


def num_params(point: Point, image_shape: tuple[int, int, int]) -> int:
    """Trained numbers of the point's model."""
    return _num_weights(_architecture(point), image_shape)


def num_activations(point: Point, image_shape: tuple[int, int, int]) -> int:
    """Numbers that the modules of the point's model put out for one image."""
    return _num_activations(_architecture(point), image_shape)


def _architecture(point: Point) -> str:
    """What of a point its model's shapes depend on, as JSON: a thousand points of a sweep have but a few."""
    likelihood = dict(point.likelihood)
    if not isinstance(likelihood.get("sigma", ""), str):
        likelihood["sigma"] = 1.0
    return json.dumps([point.latent, point.arch, likelihood, point.posterior], sort_keys=True)


def _alone(architecture: str, image_shape: tuple[int, int, int]) -> VAE:
    latent, arch, likelihood, posterior = json.loads(architecture)
    return build_networks([latent], image_shape, arch, [likelihood], posterior).eval()


@lru_cache(maxsize=1024)
def _num_weights(architecture: str, image_shape: tuple[int, int, int]) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in _alone(architecture, image_shape).parameters())


@lru_cache(maxsize=1024)
def _num_activations(architecture: str, image_shape: tuple[int, int, int]) -> int:
    num_activations = 0

    def count(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        nonlocal num_activations
        num_activations += sum(t.numel() for t in (output if isinstance(output, tuple) else (output,)))

    alone = _alone(architecture, image_shape)  # not on the meta device, whose first use imports for a second
    for module in alone.modules():
        module.register_forward_hook(count)
    with torch.inference_mode():
        alone.decode(alone.encode(torch.zeros(1, *image_shape)).mu)
    return num_activations
