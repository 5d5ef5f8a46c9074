"""Data sets that hold one image of each combination of their factors: stored once in the cache, all or some of them."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from vae_sweeps.data.bars import bar
from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.decoding.array import IMAGES, Index, content_of, write_index
from vae_sweeps.data.factors import FactorTable
from vae_sweeps.data.image_cache import stored_once
from vae_sweeps.data.mapped import MappedOptions, mapped_dataset
from vae_sweeps.data.remembered import Stamp
from vae_sweeps.system.rng import generator

BLOCK_BYTES = 1 << 21
_WRITING = "writing.u8"
# Of val and of test, of a set with at least ten times as many; factor metrics are defined on samples of this size.
_MAX_HELD_OUT = 10_000


class FactorialOptions(MappedOptions):
    """Keys that all these data sets have; `conf/data/sprites.yaml` explains them."""

    num_images: int | None


@dataclass(frozen=True)
class Factorial:
    """All images of a data set, in the order of `table`, and what they are made from.

    `blocks()` yields the images uint8 [n,C,H,W], and `shape` is (C, H, W). `files` are those that the images are read
    from, and `recipe`, which must be serialisable as JSON, says how images are made without files. The factor `label`
    is also the label.
    """

    name: str
    table: FactorTable
    shape: tuple[int, int, int]
    blocks: Callable[[], Iterator[UInt8[np.ndarray, "n C H W"]]]
    files: tuple[Stamp, ...] = ()
    recipe: Any = None
    label: str = "shape"


def factorial_dataset(source: Factorial, **options: Unpack[FactorialOptions]) -> Dataset:
    """`num_images` images of the source, chosen at random, or all if it is None.

    A tenth of them, but at most 10,000, are val, and as many test. The choice and the splits are random, but always the
    same. Raises ValueError as `source.blocks` does, if the source has fewer images, and if the cache cannot be written.
    """
    total, num_images = len(source.table.classes), options["num_images"]
    if num_images is not None and num_images > total:
        raise ValueError(f"data.num_images={num_images}: {source.name} has {total:,} images; must not be more")
    num_images = num_images or total
    chosen = torch.randperm(total, generator=generator("factorial", total))[:num_images].numpy()
    made_from = [[Path(file.path).name, file.num_bytes, file.modified_ns] for file in source.files]
    stored = stored_once(
        [source.name, source.recipe, made_from, num_images],
        options["cache"],
        lambda folder: _write(folder, source, chosen),
        lambda index: index.shape == (num_images, *source.shape),
    )
    num_held_out = min(_MAX_HELD_OUT, max(1, num_images // 10))
    split = np.repeat(np.arange(len(SPLITS)), [num_images - 2 * num_held_out, num_held_out, num_held_out])
    table = source.table.take(chosen)
    labels = table.classes[:, table.names.index(source.label)].copy()
    dataset = mapped_dataset(source.name, stored.images, stored.index.content, split, labels, table, options)
    return replace(dataset, files=source.files)


def _write(folder: Path, source: Factorial, chosen: Int64[np.ndarray, " n"]) -> None:
    """Write the chosen images, in this order, and the index. Raises OSError, and ValueError as the source does."""
    path, row_bytes = folder / _WRITING, math.prod(source.shape)
    place = np.full(len(source.table.classes), -1)
    place[chosen] = np.arange(len(chosen))
    try:
        with path.open("wb", buffering=0) as file, bar(f"storing {source.name}", len(place)) as advance:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, len(chosen) * row_bytes)  # fails now if the disk is too small
            start = 0
            for block in source.blocks():
                _write_rows(file.fileno(), block, place[start : start + len(block)])
                start += len(block)
                advance(len(block))
            assert start == len(place)
            os.fsync(file.fileno())
        content = content_of(path, len(chosen) * row_bytes, row_bytes)
        write_index(folder, Index((len(chosen), *source.shape), content, []))
        os.replace(path, folder / IMAGES)
    finally:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # if nothing was stored


def _write_rows(file: int, block: UInt8[np.ndarray, "n C H W"], place: Int64[np.ndarray, " n"]) -> None:
    """Write the block's rows to their places in the file; -1 is no place."""
    for row, i in zip(block, place, strict=True):
        if i < 0:
            continue
        data, offset = np.ascontiguousarray(row).reshape(-1).data, int(i) * row.nbytes
        while data:
            written = os.pwrite(file, data, offset)
            data, offset = data[written:], offset + written
