"""From configs to a VAE: the only place where Hydra's `_target_` becomes modules."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from vae_sweeps import vae
from vae_sweeps.checkpoint import Checkpoint
from vae_sweeps.config import without_late_defaults
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.layers import BatchNorm2d
from vae_sweeps.metrics.features import Features, of_module
from vae_sweeps.noise import generator
from vae_sweeps.points import Cost, short_name
from vae_sweeps.schema import Point
from vae_sweeps.vae import VAE


def _make(config: Mapping[str, Any], **more: Any) -> Any:
    """Call the config's `_target_`; its ValueError arrives as it is, not inside Hydra's."""
    try:
        return instantiate({**config, **more}, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise


def build_vae(points: Sequence[Point], image_shape: tuple[int, int, int]) -> VAE:
    """A VAE of K points, its weights not yet drawn. Raises ValueError where network and images do not fit."""
    likelihoods = [point.likelihood for point in points]
    latents = [point.latent for point in points]
    built = _build(latents, image_shape, points[0].arch, likelihoods, points[0].posterior)
    for module in built.modules():
        if isinstance(module, BatchNorm2d):
            module.towers = points[0].towers
    return built


def _build(
    latents: Sequence[int],
    image_shape: tuple[int, int, int],
    arch: Mapping[str, Any],
    likelihoods: Sequence[Mapping[str, Any]],
    posterior: str,
) -> VAE:
    num_models = len(latents)
    arch = without_late_defaults("arch", arch)  # a network of one's own need not know all keys of ours
    networks = _make(arch, num_models=num_models, image_shape=image_shape, latent=max(latents))
    stacked = {"sigma": [one["sigma"] for one in likelihoods]} if "sigma" in likelihoods[0] else {}
    likelihood = _make(likelihoods[0], num_models=num_models, **stacked)
    return VAE(networks, likelihood, latents, posterior)


def new_start(point: Point, image_shape: tuple[int, int, int]) -> Checkpoint:
    """Step 0: weights drawn from the point's own seed, Adam's moments zero."""
    alone = build_vae([point], image_shape)
    vae.initialise(alone, generator("weights", point.seed))
    zeros = {name: torch.zeros_like(parameter.detach()) for name, parameter in alone.named_parameters()}
    return Checkpoint(0, dict(alone.state_dict()), zeros, zeros, torch.empty(0, 3), 0.0, image_shape)


def num_params(point: Point, image_shape: tuple[int, int, int]) -> int:
    """Trained numbers of the point's model."""
    return _num_weights(_architecture(point), image_shape)


def cost(point: Point, image_shape: tuple[int, int, int]) -> Cost:
    """How the point's arithmetic grows with its latent size."""
    one, two = (num_params(replace(point, latent=latent), image_shape) for latent in (1, 2))
    return Cost(one, two)


# Measured on two cores with `python -m benchmarks.training`: beyond some tens of models nothing more is gained.
_MAX_PACK = 32


def pack_limit(point: Point, image_shape: tuple[int, int, int], memory_bytes: float) -> int:
    """How many such points train together where the user does not say: what fits `memory_bytes`, at most 32.

    A point takes its weights four times (weights, gradients, Adam's two moments), and its activations about three
    times: as they are, their gradients, and what the kernels need on the way.
    """
    architecture = _architecture(point)
    num_activations = point.batch_size * _num_activations(architecture, image_shape)
    bytes_per_number = 8 if point.precision == "fp64" else 4
    bytes_per_point = bytes_per_number * (4 * _num_weights(architecture, image_shape) + 3 * num_activations)
    return max(1, int(min(_MAX_PACK, memory_bytes / bytes_per_point)))


def _architecture(point: Point) -> str:
    """What of a point its model's shapes depend on, as JSON: a thousand points of a sweep have but a few."""
    likelihood = dict(point.likelihood)
    if not isinstance(likelihood.get("sigma", ""), str):
        likelihood["sigma"] = 1.0
    return json.dumps([point.latent, point.arch, likelihood, point.posterior], sort_keys=True)


def _alone(architecture: str, image_shape: tuple[int, int, int]) -> VAE:
    latent, arch, likelihood, posterior = json.loads(architecture)
    return _build([latent], image_shape, arch, [likelihood], posterior).eval()


@lru_cache(maxsize=1024)
def _num_weights(architecture: str, image_shape: tuple[int, int, int]) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in _alone(architecture, image_shape).parameters())


@lru_cache(maxsize=1024)
def _num_activations(architecture: str, image_shape: tuple[int, int, int]) -> int:
    """Numbers that the modules of a model put out for one image."""
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


def build_features(config: Mapping[str, Any], dataset: Dataset) -> Features:
    """What FID and KID look at: ours, or a user's module. Raises ValueError where it cannot be had for this data."""
    made = _make(config)
    if isinstance(made, partial):  # `_partial_: true`: it wants the dataset
        made = made(dataset)
    if isinstance(made, torch.nn.Module):
        return of_module(short_name(str(config["_target_"])), made, dataset.image_shape)
    if not isinstance(made, Features):
        raise ValueError(f"evaluation.features._target_={config['_target_']}: must be a module images -> [N,d]")
    return made


def load_dataset(data: Mapping[str, Any]) -> Dataset:
    """The data that a point names, on the CPU; a few are kept. Raises ValueError if it cannot be had."""
    return _cached_dataset(json.dumps(data, sort_keys=True))


@lru_cache(maxsize=4)
def _cached_dataset(data: str) -> Dataset:
    return _make(without_late_defaults("data", json.loads(data)))
