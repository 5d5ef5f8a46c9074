"""Random generators as pure functions of a key, so that checkpoints need no generator state."""

import hashlib

import torch


def generator(*key: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded by a hash of `key`."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little"))
