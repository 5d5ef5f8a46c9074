"""Find, download and read the four IDX files of an MNIST-like data set."""

import contextlib
import gzip
import hashlib
import io
import logging
import math
import os
import struct
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, Literal, cast
from urllib.request import urlopen

import numpy as np
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from vae_sweeps.system.files import write_whole
from vae_sweeps.system.memory import in_gb, memory_bytes

log = logging.getLogger(__name__)

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)

_SOCKET_TIMEOUT_S = 20
_GZIP_MAGIC = b"\x1f\x8b"
# More than any of the files has, zipped or not: what a server sends is not unzipped without end.
_MAX_DOWNLOAD_BYTES = 1 << 28
_PIECE_BYTES = 1 << 20
_MAX_DEFLATION = 1033  # how many bytes one byte of a .gz file can become, according to zlib's documentation


@dataclass(frozen=True)
class Source:
    """Where to download files, and the sha256 of each in hex.

    They are served as they are (`served_as` is plain), or each as `<mirror><name>.gz`. The sums are then of the .gz
    files (gz), or of what they contain (unzipped), since mirrors may compress differently.
    """

    mirrors: tuple[str, ...]
    sha256: dict[str, str]
    served_as: Literal["plain", "gz", "unzipped"]

    @property
    def ending(self) -> str:
        return "" if self.served_as == "plain" else ".gz"


def find_or_download(root: str | None, source: Source) -> dict[str, Path]:
    """Return the path of each of the source's files in the folder `root`, after downloading the missing ones.

    Files that are served as .gz may be there plain or zipped.

    Only downloaded files are compared with the sums. A failed download leaves nothing behind. Raises ValueError with
    `root`, the missing files and the reason of the failure.
    """
    if root is None:
        raise ValueError("data.root=null: must be the folder of the data's files, or the folder to download them to")
    folder = Path(os.path.expanduser(root))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"data.root={root}: is a file; must be the folder of {', '.join(source.sha256)}")
    missing = [name for name in source.sha256 if _present(folder, name) is None]
    try:
        for name in missing:
            content = _download(name, source)
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / f"{name}{source.ending}", content)
    except (OSError, ValueError) as error:
        missing = [name for name in source.sha256 if _present(folder, name) is None]
        form = " (plain or .gz)" if source.ending else ""
        raise ValueError(
            f"data.root={root}: {', '.join(missing)}{form} missing, and the download failed: "
            f"{_one_line(error)}; copy the files there, or set data.root to the folder that has them"
        ) from error
    return {name: path for name in source.sha256 if (path := _present(folder, name))}


def read_idx(path: Path, num_dims: Literal[1, 3]) -> UInt8[np.ndarray, "..."]:
    """Read the array of an IDX file of bytes: labels [N] or images [N,H,W].

    Reads no more than the header declares, and refuses a header that declares more than a quarter of the memory.
    Raises ValueError with the path if the file is incomplete, or has another format or number of dimensions.
    """
    try:
        with path.open("rb") as file:
            if path.suffix != ".gz":
                return _read_array(path, file, num_dims)
            if file.read(2) != _GZIP_MAGIC:
                raise ValueError(f"{path}: not a gzip file though named .gz; rename it if it is not compressed")
            file.seek(0)
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _read_array(path, cast(BinaryIO, unzipped), num_dims)
    except EOFError as error:
        raise ValueError(f"{path}: truncated: expected a gzip checksum at the end; copy it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged gzip file: {_one_line(error)}; copy it again") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read_array(path: Path, file: BinaryIO, num_dims: Literal[1, 3]) -> UInt8[np.ndarray, "..."]:
    """Read the header, then the array. Raises ValueError, and what reading a gzip file raises."""
    header_bytes = 4 * (1 + num_dims)
    header = _read(file, memoryview(bytearray(header_bytes)))
    if len(header) < header_bytes:
        raise _wrong_size(path, "truncated", f"a header of {header_bytes}", f"{len(header)}")
    magic, *shape = struct.unpack(f">{1 + num_dims}I", header)
    expected_magic = 0x0800 + num_dims  # 08: unsigned bytes
    if magic != expected_magic:
        kind = "images" if num_dims == 3 else "labels"
        raise ValueError(
            f"{path}: magic number {magic}, expected {expected_magic}: not an IDX file of {kind}; copy it again"
        )
    if 0 in shape:
        raise ValueError(f"{path}: is empty, its shape is {'x'.join(map(str, shape))}; copy it again")
    num_bytes = math.prod(shape)
    if path.suffix != ".gz" and (size := path.stat().st_size) != header_bytes + num_bytes:
        flaw = "truncated" if size < header_bytes + num_bytes else "too long"
        raise _wrong_size(path, flaw, f"{header_bytes + num_bytes}", f"{size}")
    if path.suffix == ".gz" and num_bytes > _MAX_DEFLATION * path.stat().st_size:
        raise _wrong_size(path, "truncated", f"{header_bytes + num_bytes}", "too few")
    if num_bytes > memory_bytes() / 4:
        raise ValueError(
            f"{path}: its header declares {'x'.join(map(str, shape))} bytes, {in_gb(num_bytes)}, more than a quarter "
            f"of this machine's memory ({in_gb(memory_bytes())}); copy it again if it should have fewer"
        )
    array = np.empty(num_bytes, np.uint8)  # the kernel gives memory only to what is written
    content = _read(file, array.data)
    if len(content) < num_bytes:
        raise _wrong_size(path, "truncated", f"{header_bytes + num_bytes}", f"{header_bytes + len(content)}")
    if file.read(1):
        raise _wrong_size(path, "too long", f"{header_bytes + num_bytes}", f"at least {header_bytes + num_bytes + 1}")
    return array.reshape(shape)


def _read(file: BinaryIO, buffer: memoryview) -> memoryview:
    """Fill the buffer as far as the file goes, and return what is filled. A gzip file may be cut short."""
    filled = 0
    with contextlib.suppress(EOFError):
        while filled < len(buffer) and (num := file.readinto(buffer[filled : filled + _PIECE_BYTES])):  # pyright: ignore
            filled += num
    return buffer[:filled]


def _wrong_size(path: Path, flaw: str, expected: str, found: str) -> ValueError:
    unzipped = " unzipped" if path.suffix == ".gz" else ""
    return ValueError(f"{path}: {flaw}: expected {expected} bytes, found {found} bytes{unzipped}; copy it again")


def _present(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _download(name: str, source: Source) -> bytes:
    """Download the file from the first mirror with the right sum. Raises ValueError with each mirror's error."""
    expected, failures = source.sha256[name], []
    for url in (f"{mirror}{name}{source.ending}" for mirror in source.mirrors):
        try:
            content = _get(url)
            actual = _sum_unzipped(content) if source.served_as == "unzipped" else hashlib.sha256(content).hexdigest()
        except (OSError, HTTPException) as error:
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
            if len(content) > _MAX_DOWNLOAD_BYTES:
                raise OSError(f"more than {in_gb(_MAX_DOWNLOAD_BYTES)}, more than any such file has")
            progress.advance(task, len(chunk))
    return bytes(content)


def _sum_unzipped(content: bytes) -> str:
    """The sha256 of as much as can be unzipped, a piece at a time. Raises OSError if there is no end to it."""
    digest, num_bytes = hashlib.sha256(), 0
    unreadable = contextlib.suppress(EOFError, gzip.BadGzipFile, zlib.error)
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file, unreadable:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            if (num_bytes := num_bytes + len(piece)) > _MAX_DOWNLOAD_BYTES:
                raise OSError(f"more than {in_gb(_MAX_DOWNLOAD_BYTES)} unzipped, more than any such file has")
    return digest.hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
