"""Batches that are gathered in a thread while the step before them runs."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


def gathered(images: Tensor, indices: Int[Tensor, " b"], *, is_pinned: bool) -> Tensor:
    """`images[indices]` of a tensor on the CPU, in memory that a GPU can copy from by itself if `is_pinned`.

    By NumPy, which does it on one thread: OpenMP would start threads of its own beside those of the step.
    """
    found = torch.empty(len(indices), *images.shape[1:], dtype=images.dtype, pin_memory=is_pinned)
    # mode: with the usual one NumPy gathers into a buffer first.
    np.take(images.numpy(), indices.numpy(), axis=0, out=found.numpy(), mode="clip")
    return found


class Ahead:
    """`ahead(step)` is `make(step)`, of which the next `depth` have mostly been made in a thread already.

    Only that thread calls `make`. What it raises is raised for the step that asks.
    """

    def __init__(self, make: Callable[[int], Tensor], depth: int = 2) -> None:
        self._make, self._depth = make, depth
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._futures: dict[int, Future[Tensor]] = {}

    def __call__(self, step: int) -> Tensor:
        wanted = range(step, step + 1 + self._depth)
        for other in self._futures.keys() - set(wanted):
            self._futures.pop(other).cancel()
        for s in wanted:
            if s not in self._futures:
                self._futures[s] = self._thread.submit(self._make, s)
        return self._futures.pop(step).result()
