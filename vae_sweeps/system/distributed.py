"""Data-parallel training: several processes train the same pack, each on its share of every batch.

Every rank holds all weights and takes every step, on different images. Sums over the batch are also summed over the
ranks, so the numbers equal those of one process with the whole batch, up to rounding. A single process counts as a
group of one.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import _set_pg_timeout

from vae_sweeps.system import rendezvous
from vae_sweeps.system.rendezvous import Rank

# A dead rank is noticed at once, by its closed connection; this timeout covers waiting while rank 0 evaluates.
_TIMEOUT = timedelta(hours=24)


def num_ranks() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process writes the rows, checkpoints and results: only rank 0 does."""
    return rank() == 0


@contextlib.contextmanager
def joined(rank: Rank, device: torch.device) -> Iterator[None]:
    """Join the group of `rank`, which trains on `device`; does nothing for a group of one.

    Raises RuntimeError if the other processes do not join.
    """
    if rank.size == 1:
        yield
        return
    if rank.num_nodes == 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store = rendezvous.meet(rank)
    try:
        dist.init_process_group(
            backend, store=store, rank=rank.number, world_size=rank.size, timeout=rendezvous.TIMEOUT
        )
    except RuntimeError as error:
        raise RuntimeError(
            f"devices={rank.size}: rank {rank.number} cannot connect to the others ({str(error).splitlines()[0]}); "
            "set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME in hydra.launcher.setup to the interface between the nodes"
        ) from error
    store.set_timeout(_TIMEOUT)
    _set_pg_timeout(_TIMEOUT)
    yield
    # Leave the group only on success: destroying it hangs once a rank has died.
    dist.destroy_process_group()


def broadcast(message: Any) -> None:
    """Send `message` from the main process to the others, which call `receive`."""
    if num_ranks() > 1:
        dist.broadcast_object_list([message], src=0)


def receive() -> Any:
    """Wait for the next message that the main process broadcasts, and return it."""
    received = [None]
    dist.broadcast_object_list(received, src=0)
    return received[0]


def share(num_images: int) -> slice:
    """This rank's slice of a batch of `num_images`. Slices differ by at most one image, and may be empty."""
    return slice(*_cut(num_images, num_ranks())[rank() : rank() + 2])


def tower_sizes(towers: int, num_images: int, batch_size: int) -> list[int]:
    """The number of this rank's `num_images` in each tower of a batch of `batch_size`; empty towers are left out."""
    if num_ranks() == 1:
        cuts = _cut(num_images, towers)
    else:
        per_rank = towers // num_ranks()
        cuts = _cut(batch_size, towers)[rank() * per_rank : (rank() + 1) * per_rank + 1]
    sizes = [end - begin for begin, end in pairwise(cuts) if end > begin]
    assert sum(sizes) == num_images
    return sizes


def _cut(num_images: int, num_parts: int) -> list[int]:
    return [part * num_images // num_parts for part in range(num_parts + 1)]


class _Sum(torch.autograd.Function):
    """The sum over the ranks. Each rank's loss is a part of the total loss, so gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        total = grad_outputs[0].clone()
        dist.all_reduce(total)
        return total


def total(tensor: Tensor) -> Tensor:
    """The sum of the ranks' tensors, differentiable."""
    return tensor if num_ranks() == 1 else _Sum.apply(tensor)  # type: ignore[return-value]


def add_gradients(parameters: Sequence[Tensor]) -> None:
    """Sum the gradients over the ranks, with a single all-reduce."""
    if num_ranks() == 1:
        return
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    parts = flat.split([grad.numel() for grad in grads])
    for grad, part in zip(grads, parts, strict=True):
        grad.copy_(part.view_as(grad))


class Agreement:
    """Combine the requests of all ranks (stop, save): a request of any rank applies to all, one step later.

    The delay hides the communication behind the computation of a step. Raises RuntimeError if another rank has died.
    """

    def __init__(self) -> None:
        self._flags: Tensor | None = None
        self._sent: Any = None

    def __call__(self, *requests: bool) -> tuple[bool, ...]:
        """Send this rank's requests, and return those of any rank at the previous step; one rank gets its own back."""
        if num_ranks() == 1:
            return requests
        agreed = self.settle() or (False,) * len(requests)
        self._flags = torch.tensor(requests, dtype=torch.uint8)
        self._sent = dist.all_reduce(self._flags, dist.ReduceOp.MAX, async_op=True)
        return agreed

    def settle(self) -> tuple[bool, ...]:
        """Wait for the requests of the previous step and return them; empty if none were sent."""
        if self._flags is None:
            return ()
        self._sent.wait()
        agreed = tuple(bool(flag) for flag in self._flags)
        self._flags = None
        return agreed
