"""Random generators as pure functions of a key, so that checkpoints need no generator state."""

import contextlib
import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def generator(*key: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded by a hash of `key`."""
    return torch.Generator(device).manual_seed(_seed(*key))


@contextlib.contextmanager
def seeded(*key: str | int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed the global generators of Python, NumPy and PyTorch by `key` in this block, and restore them after it.

    For code of other people, which draws from them. PyTorch's are those of the CPU and of `device`.
    """
    seed, device = _seed(*key), torch.device(device)
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else [], enabled=True):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)


def _seed(*key: str | int) -> int:
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
