"""K models in one tensor: a model's own part of it, copied in and out."""

from collections.abc import Sequence

import torch
from torch import Tensor


def point_view(tensor: Tensor, k: int, num_models: int, shape: Sequence[int]) -> Tensor:
    """The part of a stacked weight that is point k's own, in the `shape` that it has in a VAE of one model."""
    slot = slots(tensor, num_models)[k]
    return slot[tuple(slice(0, n) for n in shape)]


def put_point(stacked: dict[str, Tensor], k: int, num_models: int, alone: dict[str, Tensor]) -> None:
    """Copy the tensors of a VAE of one model into place k of a pack's."""
    with torch.no_grad():
        for name, tensor in alone.items():
            point_view(stacked[name], k, num_models, tensor.shape).copy_(tensor)


def take_point(stacked: dict[str, Tensor], k: int, num_models: int, alone: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies, on the CPU, of point k's tensors, named and shaped as those of a VAE of one model, `alone`."""
    return {
        name: point_view(stacked[name], k, num_models, like.shape).detach().cpu().clone()
        for name, like in alone.items()
    }


def slots(tensor: Tensor, num_models: int) -> Tensor:
    """A view [K, n, ...] of a stacked weight or buffer [K*n, ...]: `slots(t, K)[k]` is model k's own."""
    return tensor.view(num_models, tensor.shape[0] // num_models, *tensor.shape[1:])
