"""Training batches by step; a thread gathers them in advance if the images are not on the device."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from vae_sweeps.data.dataset import Dataset, binarized, to_model
from vae_sweeps.system.rng import generator


def epoch_order(num_images: int, seed: int, epoch: int) -> Int[Tensor, " N"]:
    """The order of the training images in `epoch`: a pure function of its arguments."""
    return torch.randperm(num_images, generator=generator("order", seed, epoch))


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """The number of batches in an epoch, including a smaller last one."""
    return -(-num_images // batch_size)


class Batches:
    """Training batches by step: `batches(step)` is a pure function of (dataset, batch size, step).

    Keeps the current epoch's order on the images' device; steps may be requested in any order. If the images are not
    in the memory of the training device, a thread gathers the next batches.
    """

    def __init__(self, dataset: Dataset, batch_size: int, dtype: torch.dtype) -> None:
        self.dataset, self.batch_size, self.dtype = dataset, batch_size, dtype
        self.images = dataset.images["train"]
        self.device = dataset.device or self.images.device
        self.steps_per_epoch = steps_per_epoch(len(self.images), batch_size)
        self._epoch = -1
        self._order = torch.empty(len(self.images), dtype=torch.int64, device=self.images.device)
        # Compare only types: a device without an index is the current one of its type, where the images then are.
        is_elsewhere = self.images.device.type != self.device.type
        self._prefetched = Prefetched(self._gathered) if is_elsewhere or dataset.is_mapped else None

    def __call__(self, step: int) -> Tensor:
        """Images [b,C,H,W] of step `step` (from 0) on the model's scale; b < batch size in an epoch's last step."""
        if self._prefetched is None:
            images = self.images.index_select(0, self._indices(step))  # takes a fraction of the time of indexing
        else:
            images = self._prefetched(step).to(self.device, non_blocking=True)
        if self.dataset.binarize == "dynamic":
            draw = generator("bits", self.dataset.seed, "train", step, device=images.device)
            images = binarized(images, torch.rand(images.shape, generator=draw, device=images.device))
        return to_model(self.dataset, images, self.dtype)

    @property
    def are_on_device(self) -> bool:
        """Whether a batch is only a choice among images in the device's memory, so that `of_number` can be used."""
        return self._prefetched is None and self.dataset.binarize != "dynamic"

    def of_number(self, step: Int[Tensor, " 1"]) -> Tensor:
        """Images [B,C,H,W] of a step whose number the device has; of a whole batch, in the epoch of `begin_epoch`."""
        num_whole = len(self.images) // self.batch_size
        whole = self._order[: num_whole * self.batch_size].view(num_whole, self.batch_size)
        indices = whole.index_select(0, step.remainder(self.steps_per_epoch)).squeeze(0)
        return to_model(self.dataset, self.images.index_select(0, indices), self.dtype)

    def begin_epoch(self, step: int) -> None:
        """Set the order of the images to that of the epoch of `step`, unless it is."""
        epoch = step // self.steps_per_epoch
        if epoch != self._epoch:
            self._order.copy_(epoch_order(len(self.images), self.dataset.seed, epoch))
            self._epoch = epoch

    def _indices(self, step: int) -> Int[Tensor, " b"]:
        self.begin_epoch(step)
        i = step % self.steps_per_epoch
        return self._order[i * self.batch_size : (i + 1) * self.batch_size]

    def _gathered(self, step: int) -> Tensor:
        return gathered(self.images, self._indices(step), is_pinned=self.device.type == "cuda")


def gathered(images: Tensor, indices: Int[Tensor, " b"], *, is_pinned: bool) -> Tensor:
    """`images[indices]` of a tensor on the CPU, in pinned memory if `is_pinned`, from which a GPU can copy directly.

    Uses NumPy, which runs on one thread; PyTorch would start OpenMP threads in addition to those of the training step.
    """
    batch = torch.empty(len(indices), *images.shape[1:], dtype=images.dtype, pin_memory=is_pinned)
    # With the default mode NumPy gathers into a buffer first.
    np.take(images.numpy(), indices.numpy(), axis=0, out=batch.numpy(), mode="clip")
    return batch


class Prefetched:
    """`prefetched(step)` returns `make(step)`; a thread computes the next `depth` steps in advance.

    Only that thread calls `make`. An exception is raised when its step is requested.
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
