"""The files of decoded pixels and their hashes: a finished array with its index, an unfinished one with its journal.

The index and the lines of the journal hold sha256 sums, since pixels that have changed on the disk would change every
number that is computed from them.
"""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from vae_sweeps.data.decoding.image import Chunk
from vae_sweeps.system import cpus
from vae_sweeps.system.files import DamagedError, seal, unseal, write_whole

INDEX, IMAGES, JOURNAL, DECODING = "index.json", "images.u8", "journal.jsonl", "decoding.u8"
BLOCK_BYTES = 1 << 23


@dataclass(frozen=True)
class Index:
    """The finished array: its `shape` (n, C, H, W), the hash of its pixels, and the source's files that it lacks."""

    shape: tuple[int, int, int, int]
    content: str
    skipped: list[int]


def write_index(folder: Path, index: Index) -> None:
    write_whole(folder / INDEX, seal(asdict(index)))


def read_index(folder: Path) -> Index | None:
    """The index of a finished array, or None if there is none. Raises DamagedError."""
    path = folder / INDEX
    try:
        fields = unseal(path.read_bytes(), path)
        return Index(tuple(fields["shape"]), fields["content"], fields["skipped"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, KeyError, TypeError) as error:
        raise DamagedError(f"{path}: damaged: cannot be read") from error


def check_pixels(folder: Path, index: Index) -> None:
    """Compare the array with the index: its size always, its content once in each process. Raises DamagedError."""
    path, num_bytes = folder / IMAGES, math.prod(index.shape)
    try:
        stat = path.stat()
        if stat.st_size != num_bytes:
            raise DamagedError(f"{path}: damaged: {stat.st_size:,} bytes instead of {num_bytes:,}")
        content = _content_once(path, stat.st_ino, stat.st_mtime_ns, num_bytes, math.prod(index.shape[1:]))
    except OSError as error:
        raise DamagedError(f"{path}: damaged: {error.strerror or error}") from error
    if content != index.content:
        raise DamagedError(f"{path}: damaged: the pixels' sha256 is not the one in {INDEX}")


@lru_cache(maxsize=64)
def _content_once(path: Path, inode: int, mtime_ns: int, num_bytes: int, row_bytes: int) -> str:
    """`content_of`, remembered in this process until another file has the name."""
    return content_of(path, num_bytes, row_bytes)


def content_of(path: Path, num_bytes: int, row_bytes: int) -> str:
    """The hash of an array's pixels: a sha256 over the sha256 sums of its blocks of whole rows.

    Reads the file instead of mapping it: what a disk cannot read is then an OSError, and not a signal that kills.
    """
    step = rows_per_block(row_bytes) * row_bytes
    blocks = [(start, min(step, num_bytes - start)) for start in range(0, num_bytes, step)]
    return hashlib.sha256(b"".join(_sums(path, blocks))).hexdigest()


def rows_per_block(row_bytes: int) -> int:
    return max(1, BLOCK_BYTES // row_bytes)


def _sums(path: Path, blocks: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The sha256 of each block (offset, bytes) of the file, computed on all cores: hashing releases the GIL."""
    with path.open("rb") as file, ThreadPoolExecutor(cpus.usable()) as pool:
        yield from pool.map(lambda block: _sum(file.fileno(), *block), blocks)


def _sum(file: int, offset: int, num_bytes: int) -> bytes:
    digest, end = hashlib.sha256(), offset + num_bytes
    while offset < end and (data := os.pread(file, min(1 << 20, end - offset), offset)):
        digest.update(data)
        offset += len(data)
    return digest.digest()


def journal_line(chunk: Chunk, sha256: str) -> str:
    """What the journal says once the chunk's rows are on the disk."""
    return json.dumps({"start": chunk.start, "sha256": sha256}) + "\n"


def finished_chunks(folder: Path, chunks: Sequence[Chunk], row_bytes: int) -> tuple[set[int], int]:
    """The starts of the chunks that the unfinished array holds as they were written, and how many it holds damaged."""
    stored = _journal(folder / JOURNAL)
    claimed = [chunk for chunk in chunks if chunk.start in stored]
    if not claimed:
        return set(), 0
    blocks = [(chunk.start * row_bytes, len(chunk.names) * row_bytes) for chunk in claimed]
    sums = _sums(folder / DECODING, blocks)
    intact = {chunk.start for chunk, found in zip(claimed, sums, strict=True) if found.hex() == stored[chunk.start]}
    return intact, len(claimed) - len(intact)


def _journal(path: Path) -> dict[int, str]:
    """The sum of each chunk that the journal names, without lines that a kill has cut short."""
    sums: dict[int, str] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                fields = json.loads(line)
                sums[fields["start"]] = fields["sha256"]
    return sums
