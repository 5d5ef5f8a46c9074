"""The factors of variation that generated a data set's images."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor


@dataclass(frozen=True)
class Factors:
    """Ground-truth factors: their names, how many values each has, and each image's classes.

    There are F names and sizes, such as ("shape", "scale") and (3, 6). `classes[split]` is int64 [N,F] in the order of
    the images; the classes of factor f are 0 to sizes[f] - 1.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    classes: Mapping[str, Tensor]


@dataclass(frozen=True)
class FactorTable:
    """The factors of images that are not yet split; `classes` is as in `Factors`."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    classes: Int64[np.ndarray, "N F"]

    def take(self, rows: np.ndarray) -> "FactorTable":
        """The factors of the images whose rows, or flags, `rows` holds."""
        return FactorTable(self.names, self.sizes, self.classes[rows])

    def by_split(self, rows: Mapping[str, slice]) -> Factors:
        classes = torch.from_numpy(self.classes)
        return Factors(self.names, self.sizes, {split: classes[of_split] for split, of_split in rows.items()})


def all_combinations(names: Sequence[str], sizes: Sequence[int]) -> FactorTable:
    """Each combination of classes once; the last factor varies fastest."""
    classes = np.stack(np.unravel_index(np.arange(np.prod(sizes)), tuple(sizes)), axis=1)
    return FactorTable(tuple(names), tuple(sizes), classes.astype(np.int64))


def digest_of(factors: Factors) -> bytes:
    """A sha256 over names, sizes and classes."""
    digest = hashlib.sha256(json.dumps([factors.names, factors.sizes]).encode())
    for split, classes in sorted(factors.classes.items()):
        digest.update(f"{split}{tuple(classes.shape)}".encode())
        digest.update(classes.contiguous().numpy().data)
    return digest.digest()
