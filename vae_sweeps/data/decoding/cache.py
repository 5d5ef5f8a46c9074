"""Decode image files once per machine, into one array of bytes on disk; takes a lock, and resumes after a kill.

A folder `images-<digest>` of the cache holds `decoding.u8` and `journal.jsonl` during decoding (the journal has a line
for each chunk of rows on the disk), and `index.json` and `images.u8` when it is finished.
"""

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from filelock import FileLock, Timeout
from jaxtyping import Bool, Int64, UInt8
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from vae_sweeps.data.decoding.image import Chunk, Flaw, Transform, reason_of, shape_of
from vae_sweeps.data.decoding.workers import decode_all, num_cores
from vae_sweeps.system import cache
from vae_sweeps.system.files import write_whole

log = logging.getLogger(__name__)

_VERSION = 1  # increase it when a change of the code changes the bytes
_CHUNK_ROWS, _CHUNK_BYTES = 256, 1 << 23
_INDEX, _IMAGES, _JOURNAL, _DECODING = "index.json", "images.u8", "journal.jsonl", "decoding.u8"

OnBadFile = Literal["error", "skip"]


@dataclass(frozen=True)
class Source:
    """Files `names` in the folder `root`, in the array's order.

    `stamps` holds each file's (size in bytes, mtime in ns), by which a changed file is recognised.
    """

    root: Path
    names: list[str]
    stamps: list[tuple[int, int]]


@dataclass(frozen=True)
class Decoded:
    """Decoded `images`, uint8 [n,C,H,W], mapped from the file rather than held in memory.

    `kept` is whether each of the source's files is among them; `content` is a hash of the pixels.
    """

    images: UInt8[Tensor, "n C H W"]
    kept: Bool[np.ndarray, " N"]
    content: str


def decoded(source: Source, transform: Transform, cache_folder: str | None, on_bad_file: OnBadFile) -> Decoded:
    """The source's images, from the cache if they have been decoded before.

    Raises ValueError with the path for a file that is not a complete image (`skip` leaves it out instead), for images
    of several sizes, and for a cache that cannot be written.
    """
    parent = cache.folder() if cache_folder is None else Path(os.path.expanduser(cache_folder))
    files = list(zip(source.names, source.stamps, strict=True))
    folder = parent / f"images-{cache.digest([_VERSION, asdict(transform), files])}"
    if (opened := _open(folder, source, on_bad_file)) is not None:
        return opened
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            if (opened := _open(folder, source, on_bad_file)) is None:
                with _removed_if_disk_is_full(folder):
                    _make(folder, source, transform, on_bad_file)
                opened = _open(folder, source, on_bad_file)
    except OSError as error:
        raise ValueError(
            f"data.cache={parent}: decoded images cannot be stored there ({error.strerror or error}); "
            "free disk space, or set data.cache to another folder"
        ) from error
    assert opened is not None
    return opened


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process decode while the others wait."""
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process to decode the same images")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _removed_if_disk_is_full(folder: Path) -> Iterator[None]:
    """Remove the folder if the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _open(folder: Path, source: Source, on_bad_file: OnBadFile) -> Decoded | None:
    """The finished array, or None if it is missing or incomplete, or lacks files that may not be skipped."""
    try:
        index = json.loads((folder / _INDEX).read_bytes())
        shape, skipped, content = index["shape"], index["skipped"], index["content"]
        if (folder / _IMAGES).stat().st_size != math.prod(shape) or shape[0] + len(skipped) != len(source.names):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if skipped and on_bad_file == "error":
        return None
    kept = np.ones(len(source.names), bool)
    kept[skipped] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that the array cannot be written to
        images = torch.from_numpy(np.memmap(folder / _IMAGES, np.uint8, "r", shape=tuple(shape)))
    if skipped:
        log.info("%s: skipped %s: not complete images", source.root, _and_more([source.names[row] for row in skipped]))
    return Decoded(images, kept, content)


def _make(folder: Path, source: Source, transform: Transform, on_bad_file: OnBadFile) -> None:
    """Decode what is missing and write the index. Raises OSError if the folder cannot be written, and ValueError."""
    shape = _shape(source, transform, on_bad_file)
    array, num_files, row_bytes = folder / _DECODING, len(source.names), math.prod(shape)
    (folder / _INDEX).unlink(missing_ok=True)
    if not array.exists() or array.stat().st_size != num_files * row_bytes:
        (folder / _JOURNAL).unlink(missing_ok=True)
        (folder / _IMAGES).unlink(missing_ok=True)
        with array.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, num_files * row_bytes)  # fails now if the disk is too small
            file.truncate(num_files * row_bytes)
    rows = max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // row_bytes))
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
    done = _finished_chunks(folder / _JOURNAL)
    remaining = [chunk for chunk in chunks if chunk.start not in done]
    num_files, num_remaining = (sum(len(chunk.names) for chunk in group) for group in (chunks, remaining))
    flaws: list[Flaw] = []
    if not remaining:
        return flaws
    log.info("%s: decoding %s of %s images into the cache", remaining[0].root, f"{num_remaining:,}", f"{num_files:,}")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
    with (
        progress,
        (folder / _JOURNAL).open("a") as journal,
        (folder / _DECODING).open("r+b") as array,
        contextlib.closing(decode_all(remaining, folder / _DECODING, shape, transform)) as decoding,
    ):
        task = progress.add_task("decoding", total=num_files, completed=num_files - num_remaining)
        for chunk, new_flaws in decoding:
            flaws += new_flaws
            os.fsync(array.fileno())  # the workers continue meanwhile
            if not new_flaws:  # other chunks are decoded again next time, since their files may have been repaired
                journal.write(json.dumps({"start": chunk.start}) + "\n")
                journal.flush()
            progress.advance(task, len(chunk.names))
            if any(flaw.is_odd_size for flaw in new_flaws):
                break
    return sorted(flaws, key=lambda flaw: flaw.row)


def _finished_chunks(journal: Path) -> set[int]:
    starts = set()
    with contextlib.suppress(FileNotFoundError):
        for line in journal.read_text().splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line cut short by a kill
                starts.add(json.loads(line)["start"])
    return starts


def _finish(folder: Path, num_files: int, shape: tuple[int, int, int], skipped: Sequence[int]) -> None:
    """Remove skipped rows, hash the pixels, and only then mark the array as complete."""
    decoding, aside = folder / _DECODING, folder / f"{_IMAGES}.tmp"
    num_images = num_files - len(skipped)
    if skipped:
        _pack(_blocks(decoding, num_files, shape), aside, np.asarray(skipped, np.int64))
    whole = aside if skipped else decoding
    with ThreadPoolExecutor(num_cores()) as pool:  # hashing releases the GIL
        parts = pool.map(lambda block: hashlib.sha256(block.data).digest(), _blocks(whole, num_images, shape))
        content = hashlib.sha256(b"".join(parts)).hexdigest()
    index: dict[str, Any] = {"shape": [num_images, *shape], "content": content, "skipped": list(skipped)}
    write_whole(folder / _INDEX, json.dumps(index) + "\n")
    os.replace(whole, folder / _IMAGES)
    (folder / _JOURNAL).unlink(missing_ok=True)
    decoding.unlink(missing_ok=True)


def _blocks(array: Path, num_rows: int, shape: tuple[int, int, int]) -> list[UInt8[np.ndarray, "n D"]]:
    """The file's rows in blocks, mapped from the file."""
    rows = np.memmap(array, np.uint8, "r", shape=(num_rows, math.prod(shape)))
    step = max(1, _CHUNK_BYTES // rows.shape[1])
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


def _and_more(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
