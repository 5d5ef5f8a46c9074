"""Decode the files of a source into one array on the disk, a chunk after the other, and write its index."""

import contextlib
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
from jaxtyping import Int64, UInt8

from vae_sweeps.data.bars import bar
from vae_sweeps.data.decoding.array import (
    BLOCK_BYTES,
    DECODING,
    IMAGES,
    INDEX,
    JOURNAL,
    Index,
    content_of,
    finished_chunks,
    journal_line,
    rows_per_block,
    write_index,
)
from vae_sweeps.data.decoding.image import Chunk, Flaw, Transform, reason_of, shape_of
from vae_sweeps.data.decoding.workers import decode_all
from vae_sweeps.system.logs import count

log = logging.getLogger(__name__)

_CHUNK_ROWS = 256

OnBadFile = Literal["error", "skip"]


@dataclass(frozen=True)
class Source:
    """Files `names` in the folder `root`, in the array's order.

    `stamps` holds each file's (size in bytes, mtime in ns), by which a changed file is recognised.
    """

    root: Path
    names: list[str]
    stamps: list[tuple[int, int]]


def make_array(folder: Path, source: Source, transform: Transform, on_bad_file: OnBadFile) -> None:
    """Decode what is missing and write the index. Raises OSError if the folder cannot be written, and ValueError."""
    shape = _shape(source, transform, on_bad_file)
    array, num_files, row_bytes = folder / DECODING, len(source.names), math.prod(shape)
    (folder / INDEX).unlink(missing_ok=True)
    if not array.exists() or array.stat().st_size != num_files * row_bytes:
        (folder / JOURNAL).unlink(missing_ok=True)
        (folder / IMAGES).unlink(missing_ok=True)
        with array.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, num_files * row_bytes)  # fails now if the disk is too small
            file.truncate(num_files * row_bytes)
    rows = max(1, min(_CHUNK_ROWS, BLOCK_BYTES // row_bytes))
    root = str(source.root)
    chunks = [Chunk(i, list(source.names[i : i + rows]), root) for i in range(0, num_files, rows)]
    flaws = _decode(folder, chunks, shape, transform)
    if any(flaw.is_odd_size for flaw in flaws):
        _refuse_sizes(source, shape, flaws)
    if flaws and (on_bad_file == "error" or len(flaws) == num_files):
        _refuse(source, flaws, on_bad_file)
    _finish(folder, num_files, shape, sorted(flaw.row for flaw in flaws))


def _decode(folder: Path, chunks: Sequence[Chunk], shape: tuple[int, int, int], transform: Transform) -> list[Flaw]:
    """Decode the chunks that are not in the journal, and return all flaws by row. Stops at images of another size."""
    done, num_damaged = finished_chunks(folder, chunks, math.prod(shape))
    if num_damaged:
        log.warning("%s: damaged in %s; decoding again", folder / DECODING, count(num_damaged, "finished chunk"))
    remaining = [chunk for chunk in chunks if chunk.start not in done]
    num_files, num_remaining = (sum(len(chunk.names) for chunk in group) for group in (chunks, remaining))
    flaws: list[Flaw] = []
    if not remaining:
        return flaws
    log.info("%s: decoding %s of %s images into the cache", remaining[0].root, f"{num_remaining:,}", f"{num_files:,}")
    with (
        bar("decoding", num_files, num_files - num_remaining) as advance,
        (folder / JOURNAL).open("a") as journal,
        (folder / DECODING).open("r+b") as array,
        contextlib.closing(decode_all(remaining, folder / DECODING, shape, transform)) as decoding,
    ):
        for chunk, new_flaws, sha256 in decoding:
            flaws += new_flaws
            os.fsync(array.fileno())  # the workers continue meanwhile
            if not new_flaws:  # other chunks are decoded again next time, since their files may have been repaired
                journal.write(journal_line(chunk, sha256))
                journal.flush()
            advance(len(chunk.names))
            if any(flaw.is_odd_size for flaw in new_flaws):
                break
    return sorted(flaws, key=lambda flaw: flaw.row)


def _finish(folder: Path, num_files: int, shape: tuple[int, int, int], skipped: Sequence[int]) -> None:
    """Remove skipped rows, hash the pixels, and only then mark the array as complete."""
    decoding, aside = folder / DECODING, folder / f"{IMAGES}.tmp"
    num_images = num_files - len(skipped)
    if skipped:
        _pack(_blocks(decoding, num_files, shape), aside, np.asarray(skipped, np.int64))
    whole = aside if skipped else decoding
    row_bytes = math.prod(shape)
    content = content_of(whole, num_images * row_bytes, row_bytes)
    write_index(folder, Index((num_images, *shape), content, list(skipped)))
    os.replace(whole, folder / IMAGES)
    (folder / JOURNAL).unlink(missing_ok=True)
    decoding.unlink(missing_ok=True)


def _blocks(array: Path, num_rows: int, shape: tuple[int, int, int]) -> list[UInt8[np.ndarray, "n D"]]:
    """The file's rows in blocks, mapped from the file."""
    rows = np.memmap(array, np.uint8, "r", shape=(num_rows, math.prod(shape)))
    step = rows_per_block(rows.shape[1])
    return [rows[start : start + step] for start in range(0, num_rows, step)]


def _pack(blocks: Sequence[UInt8[np.ndarray, "n D"]], path: Path, gaps: Int64[np.ndarray, " m"]) -> None:
    """Write the rows that are not among `gaps` to `path`, and flush them."""
    start = 0
    with path.open("wb") as packed:
        for block in blocks:
            inside = gaps[(gaps >= start) & (gaps < start + len(block))] - start
            packed.write(np.delete(block, inside, axis=0).data)
            start += len(block)
        packed.flush()
        os.fsync(packed.fileno())


def _shape(source: Source, transform: Transform, on_bad_file: OnBadFile) -> tuple[int, int, int]:
    """The shape (C, H, W) of the images: the transform's, or if it has none, that of the first image."""
    if transform.size is not None:
        return transform.channels, transform.size, transform.size
    flaws: list[Flaw] = []
    for row, name in enumerate(source.names):
        try:
            return shape_of(source.root / name, transform)
        except Exception as error:  # as in decode_chunk
            flaws.append(Flaw(row, name, reason_of(error)))
            if on_bad_file == "error":
                break
    return _refuse(source, flaws, on_bad_file)


def _refuse_sizes(source: Source, shape: tuple[int, int, int], flaws: Sequence[Flaw]) -> NoReturn:
    odd = next(flaw for flaw in flaws if flaw.is_odd_size)
    raise ValueError(
        f"data.root={source.root}: images of several sizes: {odd.name} becomes {odd.reason}, others "
        f"{shape[2]}x{shape[1]}; set data.size=N, with data.crop=center to avoid stretching"
    )


def _refuse(source: Source, flaws: Sequence[Flaw], on_bad_file: OnBadFile) -> NoReturn:
    first, others = flaws[0], f" (and {len(flaws) - 1} more files)" if len(flaws) > 1 else ""
    advice = "replace or remove such files, or skip them with data.on_bad_file=skip"
    if on_bad_file == "skip":
        advice = "no file can be used; must be JPEG, PNG or WebP images"
    raise ValueError(f"{source.root / first.name}: cannot be used: {first.reason}{others}; {advice}")
