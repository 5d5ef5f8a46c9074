"""Make a Dataset of an array of images that is mapped from the cache."""

import hashlib
import json
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.factors import Factors, FactorTable, digest_of


class MappedOptions(TypedDict):
    """Keys that all data sets of mapped images have; `conf/data/image_folder.yaml` explains them."""

    pixel_range: Sequence[float]
    seed: int
    cache: str | None
    resident: bool | str


def mapped_dataset(
    name: str,
    images: UInt8[Tensor, "N C H W"],
    content: str,
    split: Int64[np.ndarray, " N"],
    labels: Int64[np.ndarray, " N"] | None,
    table: FactorTable | None,
    options: MappedOptions,
) -> Dataset:
    """Split the images, labels and factors.

    `split` holds indices of `SPLITS`, each in one piece and with at least one image. `content` is a hash of the pixels.
    The fingerprint depends on pixels, splits, labels and factors, not on names or locations.
    """
    rows = {name: _piece(split == i) for i, name in enumerate(SPLITS)}
    all_labels = None if labels is None else torch.from_numpy(labels)
    factors = None if table is None else table.by_split(rows)
    low, high = options["pixel_range"]
    return Dataset(
        name,
        {of: images[piece] for of, piece in rows.items()},
        None if all_labels is None else {of: all_labels[piece] for of, piece in rows.items()},
        _fingerprint(content, images, split, labels, factors),
        (float(low), float(high)),
        seed=options["seed"],
        resident=options["resident"],
        is_mapped=True,
        factors=factors,
    )


def _piece(is_in_split: np.ndarray) -> slice:
    (rows,) = np.nonzero(is_in_split)
    return slice(rows[0], rows[-1] + 1)


def _fingerprint(
    content: str, images: Tensor, split: np.ndarray, labels: np.ndarray | None, factors: Factors | None
) -> str:
    digest = hashlib.sha256(json.dumps([content, list(images.shape)]).encode())
    digest.update(split.astype(np.uint8).tobytes())
    if labels is not None:
        digest.update(labels.tobytes())
    if factors is not None:
        digest.update(digest_of(factors))
    return digest.hexdigest()[:16]
