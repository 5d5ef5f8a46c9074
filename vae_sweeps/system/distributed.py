"""Processes that train the same pack, each on its share of every batch; a lone process is a group of one.

Every rank holds all weights and takes every step; what differs is its share of the images. Sums over the batch are
summed over the ranks, so that the numbers are those of one process that has the whole batch, up to rounding.
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

# A rank that has died is noticed at once, by its closed connection. This is for one that waits while another
# evaluates what was trained.
_PATIENCE = timedelta(hours=24)


def num_ranks() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process is the one that writes rows, checkpoints and results."""
    return rank() == 0


@contextlib.contextmanager
def joined(number: int, of: int, port: int, device: torch.device) -> Iterator[None]:
    """Be rank `number` of a group of `of` on this machine; alone, nothing changes.

    Raises RuntimeError where the others do not come.
    """
    if of == 1:
        yield
        return
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group(backend, init_method=address, rank=number, world_size=of, timeout=_PATIENCE)
    yield
    # Only where all went well: in order is how nobody can leave a group that has lost a member.
    dist.destroy_process_group()


def tell(message: Any) -> None:
    """What the main process says to the others, who `hear` it; alone, nothing."""
    if num_ranks() > 1:
        dist.broadcast_object_list([message], src=0)


def hear() -> Any:
    """What the main process tells next."""
    said = [None]
    dist.broadcast_object_list(said, src=0)
    return said[0]


def share(num_images: int) -> slice:
    """This rank's images of a batch of `num_images`; shares differ by one at most, and may be empty."""
    return slice(*_cut(num_images, num_ranks())[rank() : rank() + 2])


def tower_sizes(towers: int, num_images: int, batch_size: int) -> list[int]:
    """How many of this rank's `num_images` belong to each tower of the batch of `batch_size`, without empty ones."""
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
    """The sum over the ranks. Each rank's loss is its share of a total, so the gradient is the sum of theirs."""

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
    """Sum the gradients over the ranks, in one message."""
    if num_ranks() == 1:
        return
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    parts = flat.split([grad.numel() for grad in grads])
    for grad, part in zip(grads, parts, strict=True):
        grad.copy_(part.view_as(grad))


class Agreement:
    """What any rank wishes becomes what all do, one step later: the message is under way while the step is computed.

    Waiting for it is also how a rank learns that another has died (RuntimeError).
    """

    def __init__(self) -> None:
        self._flags: Tensor | None = None
        self._sent: Any = None

    def __call__(self, *wishes: bool) -> tuple[bool, ...]:
        """Whether anybody wished so at the last step; alone, at once."""
        if num_ranks() == 1:
            return wishes
        before = self.settle() or (False,) * len(wishes)
        self._flags = torch.tensor(wishes, dtype=torch.uint8)
        self._sent = dist.all_reduce(self._flags, dist.ReduceOp.MAX, async_op=True)
        return before

    def settle(self) -> tuple[bool, ...]:
        """What was wished at the last step, if anything was said."""
        if self._flags is None:
            return ()
        self._sent.wait()
        agreed = tuple(bool(flag) for flag in self._flags)
        self._flags = None
        return agreed
