"""Memorisation: the distance of samples to their nearest training images."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from vae_sweeps.system import machine

# Pixel values of training images held as float64 at once: on a CPU 8 MB, which `machine.memory_kept` keeps.
_NUMBERS_AT_ONCE, _NUMBERS_AT_ONCE_ON_GPU = 1 << 20, 1 << 24
# Pixel values subtracted at once for pairs of images.
_PAIRED_AT_ONCE = 1 << 22
# An upper bound of the rounding error of |a|^2 + |b|^2 - 2 ab in float64, relative to |a|^2 + |b|^2.
_ROUNDING = 1e-12


class Nearest(NamedTuple):
    """The nearest of some other images to each image: its index, and its L2 distance in pixels."""

    which: Int[Tensor, " N"]
    distance: Float64[Tensor, " N"]


def nearest(
    images: Float64[Tensor, "N D"], others: Tensor, to_pixels: Callable[[Tensor], Float64[Tensor, "M D"]]
) -> Nearest:
    """The nearest of `others` (M of them, in blocks through `to_pixels`) to each image, the first of equally near ones.

    Exact: expanded squared distances have rounding errors, so all candidates near the smallest are computed directly.
    """
    squares = images.square().sum(1, keepdim=True)
    best = torch.full_like(images[:, 0], torch.inf)
    which = torch.zeros_like(best, dtype=torch.int64)
    start, num_pairs = 0, max(1, _PAIRED_AT_ONCE // images.shape[1])
    with machine.memory_kept(images.device, "evaluation"):
        numbers = _NUMBERS_AT_ONCE if images.device.type == "cpu" else _NUMBERS_AT_ONCE_ON_GPU
        for block in others.split(max(1, numbers // images.shape[1])):
            x = to_pixels(block)
            sums = squares + x.square().sum(1)
            rough = sums - 2 * images @ x.T
            is_near = rough <= (rough + _ROUNDING * sums).min(1, keepdim=True).values + _ROUNDING * sums
            rows, candidates = is_near.nonzero(as_tuple=True)  # in order of rows, then candidates
            found = torch.full_like(rough, torch.inf)
            for i, j in zip(rows.split(num_pairs), candidates.split(num_pairs), strict=True):
                found[i, j] = (images[i] - x[j]).square().sum(1)
            distance, at = found.min(1)
            is_nearer = distance < best
            best = torch.where(is_nearer, distance, best)
            which = torch.where(is_nearer, at + start, which)
            start += len(block)
    return Nearest(which, best.sqrt())
