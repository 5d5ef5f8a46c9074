"""Features that scores such as FID compare: one vector for each image in [0,1]."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import nn

from vae_sweeps.config.identity import short_name
from vae_sweeps.config.targets import instantiate_target
from vae_sweeps.data.dataset import Dataset, for_evaluation, in_unit_range


class Extractor(NamedTuple):
    """A module `images [N,C,H,W] in [0,1] -> [N,d]`, the hash of its weights, and a classifier's accuracy."""

    module: nn.Module
    weights_hash: str
    accuracy: float | None = None


@dataclass(frozen=True)
class Features:
    """Named features; the columns of their scores contain the name. `load` trains or reads them when first needed."""

    name: str
    width: int
    load: Callable[[], Extractor]


def weights_hash(module: nn.Module) -> str:
    """The first 12 hex digits of a SHA-256 over the names, shapes, types and values of the module's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


class Standardised(nn.Module):
    """Another module's features, each with mean 0 and variance 1 over the training images once `fit` has seen them.

    KID's kernel (x y / d + 1)^3 is meant for features of that size, and FID is then in units of their variance.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, module: nn.Module, width: int) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def forward(self, images: Float[torch.Tensor, "N C H W"]) -> Float[torch.Tensor, "N d"]:
        return (self.module(images) - self.mean) / self.scale

    @torch.inference_mode()
    def fit(self, dataset: Dataset) -> "Standardised":
        """Set mean and scale from the first 10,000 training images; a constant feature has scale 1."""
        blocks = for_evaluation(dataset, "train")[:10_000].split(500)
        values = torch.cat([self.module(in_unit_range(block.cpu(), dataset.pixel_range)) for block in blocks]).double()
        spread = values.std(0, correction=0)
        self.mean.copy_(values.mean(0))
        self.scale.copy_(torch.where(spread > 1e-6 * spread.max(), spread, 1.0))
        return self


def of_module(name: str, module: nn.Module, image_shape: tuple[int, int, int]) -> Features:
    """Features of a user's module, tried on two grey images. Raises ValueError if it does not give [N,d]."""
    module = module.eval().requires_grad_(False)
    with torch.inference_mode():
        try:
            found = module(torch.full((2, *image_shape), 0.5))
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            shape = [2, *image_shape]
            raise ValueError(f"evaluation.features={name}: fails on images of {shape}: {error}") from error
    if not isinstance(found, torch.Tensor) or found.dim() != 2 or len(found) != 2:
        shape = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise ValueError(f"evaluation.features={name}: gives {shape} for 2 images; must be a module images -> [N,d]")
    return Features(name, found.shape[1], lambda: Extractor(module, weights_hash(module)))


def build_features(config: Mapping[str, Any], dataset: Dataset) -> Features:
    """The features for scores: built in, or a user's module. Raises ValueError if they do not suit the data."""
    made = instantiate_target(config)
    if isinstance(made, partial):  # `_partial_: true` means that the target takes the dataset
        made = made(dataset)
    if isinstance(made, torch.nn.Module):
        return of_module(short_name(str(config["_target_"])), made, dataset.image_shape)
    if not isinstance(made, Features):
        raise ValueError(f"evaluation.features._target_={config['_target_']}: must be a module images -> [N,d]")
    return made
