"""Batch sizes for evaluation."""

import math
from collections.abc import Sequence

from torch import Tensor

# Noise is drawn for blocks of this many images, so that it does not depend on the batch size.
IMAGES_PER_DRAW = 512
# Input values per batch of a network: some tens of MB, with its activations.
_NUMBERS_AT_ONCE = 1 << 20


def images_at_once(image_shape: Sequence[int], batch_size: int = IMAGES_PER_DRAW) -> int:
    """How many images [C,H,W] go through a network at once: `batch_size`, or fewer if they are large."""
    return max(1, min(batch_size, IMAGES_PER_DRAW, _NUMBERS_AT_ONCE // math.prod(image_shape)))


def in_double(values: Tensor) -> Tensor:
    """The values as float64, on the CPU if the device does not support it."""
    return (values.cpu() if values.device.type == "mps" else values).double()
