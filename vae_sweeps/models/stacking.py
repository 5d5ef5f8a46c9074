"""K models in one tensor: copy one model's part in or out."""

from collections.abc import Sequence

import torch
from torch import Tensor


def point_view(tensor: Tensor, k: int, num_models: int, shape: Sequence[int]) -> Tensor:
    """A view of point k's part of a stacked weight, with the `shape` that it has in a VAE of one model."""
    slot = slots(tensor, num_models)[k]
    return slot[tuple(slice(0, n) for n in shape)] if len(shape) else slot.view(())


def put_point(stacked: dict[str, Tensor], k: int, num_models: int, alone: dict[str, Tensor]) -> None:
    """Copy the tensors of a VAE of one model into slot k of a pack's tensors."""
    with torch.no_grad():
        for name, tensor in alone.items():
            point_view(stacked[name], k, num_models, tensor.shape).copy_(tensor)


def take_point(stacked: dict[str, Tensor], k: int, num_models: int, alone: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy point k's tensors to the CPU, with the names and shapes of `alone`, the tensors of a VAE of one model."""
    return {
        name: point_view(stacked[name], k, num_models, like.shape).detach().cpu().clone()
        for name, like in alone.items()
    }


def slots(tensor: Tensor, num_models: int) -> Tensor:
    """A view [K, n, ...] of a stacked weight or buffer [K*n, ...]: `slots(t, K)[k]` belongs to model k.

    Numbers of K models are [K], and [K, 1] here. That of one model is a tensor without dimensions.
    """
    tensor = tensor.view(1) if not tensor.dim() else tensor
    return tensor.view(num_models, tensor.shape[0] // num_models, *tensor.shape[1:])
