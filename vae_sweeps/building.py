"""From configs to a VAE: the only place where Hydra's `_target_` becomes modules."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from vae_sweeps import vae
from vae_sweeps.checkpoint import Checkpoint
from vae_sweeps.data.dataset import Dataset
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
    first, num_models, latents = points[0], len(points), [point.latent for point in points]
    networks = _make(first.arch, num_models=num_models, image_shape=image_shape, latent=max(latents))
    stacked = {"sigma": [p.likelihood["sigma"] for p in points]} if "sigma" in first.likelihood else {}
    likelihood = _make(first.likelihood, num_models=num_models, **stacked)
    return VAE(networks, likelihood, latents, first.posterior)


def new_start(point: Point, image_shape: tuple[int, int, int]) -> Checkpoint:
    """Step 0: weights drawn from the point's own seed, Adam's moments zero."""
    alone = build_vae([point], image_shape)
    vae.initialise(alone, generator("weights", point.seed))
    zeros = {name: torch.zeros_like(parameter.detach()) for name, parameter in alone.named_parameters()}
    return Checkpoint(0, dict(alone.state_dict()), zeros, zeros, torch.empty(0, 3), 0.0, image_shape)


def num_params(point: Point, image_shape: tuple[int, int, int]) -> int:
    """Trained numbers of the point's model."""
    with torch.device("meta"):
        alone = build_vae([point], image_shape)
    return sum(parameter.numel() for parameter in alone.parameters())


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
    activations = 0

    def count(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        nonlocal activations
        activations += sum(t.numel() for t in (output if isinstance(output, tuple) else (output,)))

    with torch.device("meta"):
        alone = build_vae([point], image_shape)
        for module in alone.modules():
            module.register_forward_hook(count)
        q = alone.encode(torch.empty(point.batch_size, *image_shape))
        alone.decode(q.mu)
    num_weights = sum(parameter.numel() for parameter in alone.parameters())
    bytes_per_number = {"fp32": 4, "fp64": 8}[point.precision]
    return max(1, min(_MAX_PACK, int(memory_bytes / (bytes_per_number * (4 * num_weights + 3 * activations)))))


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
    return _cached_dataset(_frozen(data))


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple((name, _frozen(v)) for name, v in sorted(value.items()))
    return ("list", *map(_frozen, value)) if isinstance(value, list | tuple) else value


def _thawed(value: Any) -> Any:
    return list(map(_thawed, value[1:])) if isinstance(value, tuple) else value


@lru_cache(maxsize=4)
def _cached_dataset(frozen: tuple[tuple[str, Any], ...]) -> Dataset:
    return _make({name: _thawed(value) for name, value in frozen})
