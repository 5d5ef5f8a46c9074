"""Find, download and read the four IDX files of an MNIST-like data set."""

import hashlib
import logging
import math
import os
import struct
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Literal
from urllib.request import urlopen

import numpy as np
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from vae_sweeps.system.files import write_whole

log = logging.getLogger(__name__)

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)

_SOCKET_TIMEOUT_S = 20
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Source:
    """Where to download the four files, each as `<mirror><name>.gz`, and the sha256 of each in hex.

    The sums are of the files as served (`sums_of` is gz) or unzipped, since mirrors may compress differently.
    """

    mirrors: tuple[str, ...]
    sha256: dict[str, str]
    sums_of: Literal["gz", "unzipped"]


def find_or_download(root: str | None, source: Source) -> dict[str, Path]:
    """Return the path of each of `FILES` in the folder `root`, plain or .gz, after downloading the missing ones.

    Only downloaded files are compared with the sums. A failed download leaves nothing behind. Raises ValueError with
    `root`, the missing files and the reason of the failure.
    """
    if root is None:
        raise ValueError("data.root=null: must be the folder of the IDX files, or the folder to download them to")
    folder = Path(os.path.expanduser(root))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"data.root={root}: is a file; must be the folder of {', '.join(FILES)}")
    missing = [name for name in FILES if _present(folder, name) is None]
    try:
        for name in missing:
            content = _download(name, source)
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / f"{name}.gz", content)
    except (OSError, ValueError) as error:
        missing = [name for name in FILES if _present(folder, name) is None]
        raise ValueError(
            f"data.root={root}: {', '.join(missing)} (plain or .gz) missing, and the download failed: "
            f"{_one_line(error)}; copy the files there, or set data.root to the folder that has them"
        ) from error
    return {name: path for name in FILES if (path := _present(folder, name))}


def read_idx(path: Path, num_dims: Literal[1, 3]) -> UInt8[np.ndarray, "..."]:
    """Read the array of an IDX file of bytes: labels [N] or images [N,H,W].

    Raises ValueError with the path if the file is incomplete, or has another format or number of dimensions.
    """
    content, is_complete = _read_bytes(path)
    header_bytes = 4 * (1 + num_dims)
    actual = f"found {len(content)} bytes{' unzipped' if path.suffix == '.gz' else ''}; copy it again"
    if len(content) < header_bytes:
        raise ValueError(f"{path}: truncated: expected a header of {header_bytes} bytes, {actual}")
    magic, *shape = struct.unpack(f">{1 + num_dims}I", content[:header_bytes])
    expected_magic = 0x0800 + num_dims  # 08: unsigned bytes
    if magic != expected_magic:
        kind = "images" if num_dims == 3 else "labels"
        raise ValueError(
            f"{path}: magic number {magic}, expected {expected_magic}: not an IDX file of {kind}; copy it again"
        )
    expected_bytes = header_bytes + math.prod(shape)
    if len(content) != expected_bytes:
        flaw = "truncated" if len(content) < expected_bytes else "too long"
        raise ValueError(f"{path}: {flaw}: expected {expected_bytes} bytes, {actual}")
    if not is_complete:
        raise ValueError(f"{path}: truncated: expected a gzip checksum at the end, {actual}")
    if 0 in shape:
        raise ValueError(f"{path}: is empty, its shape is {'x'.join(map(str, shape))}; copy it again")
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape).copy()


def _present(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _download(name: str, source: Source) -> bytes:
    """Download the .gz file from the first mirror with the right sum. Raises ValueError with each mirror's error."""
    expected, failures = source.sha256[name], []
    for url in (f"{mirror}{name}.gz" for mirror in source.mirrors):
        try:
            content = _get(url)
            actual = hashlib.sha256(_unzipped(content)[0] if source.sums_of == "unzipped" else content).hexdigest()
        except (OSError, HTTPException, zlib.error) as error:
            failures.append(f"{url}: {error}")
            continue
        if actual == expected:
            return content
        failures.append(f"{url}: sha256 {actual[:12]}..., expected {expected[:12]}...")
    raise ValueError("; ".join(failures))


def _get(url: str) -> bytes:
    log.info("downloading %s", url)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
    with urlopen(url, timeout=_SOCKET_TIMEOUT_S) as response, progress:
        task = progress.add_task(url.rsplit("/", 1)[-1], total=response.length)
        content = bytearray()
        while chunk := response.read(1 << 16):
            content += chunk
            progress.advance(task, len(chunk))
    return bytes(content)


def _read_bytes(path: Path) -> tuple[bytes, bool]:
    """Read the file, unzipped if its name ends in .gz, and return its bytes and whether the file is complete.

    Raises ValueError with the path.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    if path.suffix != ".gz":
        return content, True
    if content[:2] != _GZIP_MAGIC:
        raise ValueError(f"{path}: not a gzip file though named .gz; rename it if it is not compressed")
    try:
        return _unzipped(content)
    except zlib.error as error:
        raise ValueError(f"{path}: damaged gzip file: {_one_line(error)}; copy it again") from error


def _unzipped(content: bytes) -> tuple[bytes, bool]:
    """Unzip as much as possible, and return the bytes and whether the input is complete. Raises zlib.error."""
    parts = []
    while content[:2] == _GZIP_MAGIC:  # a gzip file may have several members
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16: with a gzip header
        parts.append(member.decompress(content))
        if not member.eof:
            return b"".join(parts), False
        content = member.unused_data
    return b"".join(parts), True


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
