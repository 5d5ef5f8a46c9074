"""What FID and KID look at: images in [0,1] -> a vector for each."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn


class Extractor(NamedTuple):
    """A module `images [N,C,H,W] in [0,1] -> [N,d]`, what its weights are, and how well they classify if they do."""

    module: nn.Module
    weights_hash: str
    accuracy: float | None = None


@dataclass(frozen=True)
class Features:
    """Features by name, which stands in the columns of their scores; `load` trains or reads them when first needed."""

    name: str
    width: int
    load: Callable[[], Extractor]


def weights_hash(module: nn.Module) -> str:
    """The first 12 hex digits of a sha256 over names, shapes and values of the module's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


def of_module(name: str, module: nn.Module, image_shape: tuple[int, int, int]) -> Features:
    """Features of a user's module, tried on two grey images. Raises ValueError if it does not give [N,d]."""
    module = module.eval().requires_grad_(False)
    with torch.inference_mode():
        found = module(torch.full((2, *image_shape), 0.5))
    if not isinstance(found, torch.Tensor) or found.dim() != 2 or len(found) != 2:
        shape = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise ValueError(f"evaluation.features={name}: gives {shape} for 2 images; must be a module images -> [N,d]")
    return Features(name, found.shape[1], lambda: Extractor(module, weights_hash(module)))
