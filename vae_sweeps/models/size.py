"""The size of a point's model: its parameters and activations."""

import json
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from vae_sweeps.config.schema import OF_EACH, Point
from vae_sweeps.models.build import build_networks, has_own_likelihood, has_own_networks
from vae_sweeps.models.vae import VAE

# Networks with more weights are measured without allocating them.
_MAX_ALLOCATED = 20_000_000


def num_params(point: Point, image_shape: tuple[int, int, int]) -> int:
    """The number of trained parameters of the point's model."""
    return _num_weights(_architecture(point), image_shape)


def bytes_per_number(point: Point) -> int:
    """The bytes of one weight of the point's model, of its gradient, or of one of Adam's moments."""
    return 8 if point.precision == "fp64" else 4


def num_activations(point: Point, image_shape: tuple[int, int, int]) -> int:
    """The number of values that the modules of the point's model output for one image."""
    return _of_an_image(_architecture(point), image_shape).num_outputs


def num_flops(point: Point, image_shape: tuple[int, int, int]) -> int:
    """The floating-point operations of the layers of the point's model in a forward pass of one image.

    Networks of the user's own that keep their weights elsewhere than in layers' `weight` count too little.
    """
    return _of_an_image(_architecture(point), image_shape).num_flops


def _architecture(point: Point) -> str:
    """The settings that the shapes of the point's model depend on, as JSON; even large sweeps have only a few."""
    likelihood = dict(point.likelihood)
    if not has_own_likelihood(likelihood):
        likelihood |= {name: 1.0 for name in OF_EACH if not isinstance(likelihood.get(name, ""), str)}
    return json.dumps([point.latent, point.arch, likelihood, point.posterior], sort_keys=True)


def _build(architecture: str, image_shape: tuple[int, int, int]) -> VAE:
    latent, arch, likelihood, posterior = json.loads(architecture)
    return build_networks([latent], image_shape, arch, [likelihood], posterior).eval()


def _device(architecture: str) -> torch.device:
    """The meta device, which allocates nothing; but the user's own parts may need real tensors."""
    _, arch, likelihood, _ = json.loads(architecture)
    return torch.device("cpu" if has_own_networks(arch) or has_own_likelihood(likelihood) else "meta")


@lru_cache(maxsize=1024)
def _num_weights(architecture: str, image_shape: tuple[int, int, int]) -> int:
    with _device(architecture):
        return sum(parameter.numel() for parameter in _build(architecture, image_shape).parameters())


class _OfAnImage(NamedTuple):
    """What a forward pass of one image computes."""

    num_outputs: int
    num_flops: int


@lru_cache(maxsize=1024)
def _of_an_image(architecture: str, image_shape: tuple[int, int, int]) -> _OfAnImage:
    num_outputs = num_flops = 0

    def count(module: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal num_outputs, num_flops
        outputs = [t for t in (output if isinstance(output, tuple) else (output,)) if isinstance(t, torch.Tensor)]
        num_outputs += sum(t.numel() for t in outputs)
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.ndim > 1:
            # A kernel is applied at each place of the smaller of its images: of a convolution's output, or of the
            # input of a transposed one.
            sides = [t for t in (*inputs, *outputs) if isinstance(t, torch.Tensor)]
            places = min(t.shape[-2:].numel() for t in sides) if all(t.ndim == 4 for t in sides) else 1
            num_flops += 2 * weight.numel() * places

    # The meta device allocates nothing, but its first use spends a second on imports.
    is_small = _num_weights(architecture, image_shape) <= _MAX_ALLOCATED
    with torch.device("cpu") if is_small else _device(architecture), torch.inference_mode():
        vae = _build(architecture, image_shape)
        for module in vae.modules():
            module.register_forward_hook(count)
        vae.decode(vae.encode(torch.zeros(1, *image_shape)).mu)
    return _OfAnImage(num_outputs, num_flops)
