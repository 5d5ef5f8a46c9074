"""Batches for evaluation: how large they are, and their results in one tensor."""

import math
from collections.abc import Iterable, Sequence

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


def joined(parts: Iterable[Tensor], num_rows: int) -> Tensor:
    """The rows of all parts [n,...], one after another, as one tensor [`num_rows`,...].

    Each part is copied as it comes. A list of many small parts would lie scattered between the large arrays of the
    batches, whose memory `machine.memory_kept` could then not use again.
    """
    whole, begin = None, 0
    for part in parts:
        if whole is None:
            whole = part.new_empty(num_rows, *part.shape[1:])
        whole[begin : begin + len(part)] = part
        begin += len(part)
    assert whole is not None
    assert begin == num_rows
    return whole
