"""Memorisation: how near samples come to the training images."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int
from torch import Tensor

# Numbers of the training images that are held as float64 at once.
_NUMBERS_AT_ONCE = 1 << 22


class Nearest(NamedTuple):
    """Of each image the nearest of some others: which one, and its L2 distance in pixels."""

    which: Int[Tensor, " N"]
    distance: Float64[Tensor, " N"]


def nearest(
    images: Float64[Tensor, "N D"], others: Tensor, to_pixels: Callable[[Tensor], Float64[Tensor, "M D"]]
) -> Nearest:
    """The nearest of `others` (M of them, in blocks through `to_pixels`) to each image; exact, for all is float64."""
    squares = images.square().sum(1, keepdim=True)
    best = torch.full_like(images[:, 0], torch.inf)
    which = torch.zeros_like(best, dtype=torch.int64)
    start = 0
    for block in others.split(max(1, _NUMBERS_AT_ONCE // images.shape[1])):
        x = to_pixels(block)
        found, at = (squares - 2 * images @ x.T + x.square().sum(1)).min(1)
        # Multiplied out, squares lose digits where images are alike: the winner's distance is taken directly.
        found = (images - x[at]).square().sum(1)
        is_nearer = found < best
        best = torch.where(is_nearer, found, best)
        which = torch.where(is_nearer, at + start, which)
        start += len(block)
    return Nearest(which, best.sqrt())
