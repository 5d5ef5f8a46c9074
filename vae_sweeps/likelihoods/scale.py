"""A scale of each of K models: K numbers, or a parameter that starts at a number."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Scale(nn.Module):
    """K numbers (fixed), or K times "learned": a parameter [K], whose logarithm starts at 0 plus that of `start`."""

    fixed: Tensor

    def __init__(self, scale: Sequence[float | str], start: float) -> None:
        super().__init__()
        self.is_learned = isinstance(scale[0], str)
        if self.is_learned:
            self.log_factor = nn.Parameter(torch.zeros(len(scale)))
            self.start = start
        else:
            self.register_buffer("fixed", torch.tensor(scale, dtype=torch.float64), persistent=False)

    @property
    def value(self) -> Float[Tensor, " K"]:
        """The scale of each model."""
        return self.start * self.log_factor.exp() if self.is_learned else self.fixed

    def column(self, like: Tensor) -> Float[Tensor, "K 1 1"]:
        """The scales in the data type of `like`, to be used with [K,B,D]."""
        return self.value.to(like.dtype)[:, None, None]
