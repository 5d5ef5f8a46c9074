"""Read the IDX files of an MNIST-like data set."""

import contextlib
import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
from jaxtyping import UInt8

from vae_sweeps.system.memory import in_gb, memory_bytes

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)

_GZIP_MAGIC = b"\x1f\x8b"
_PIECE_BYTES = 1 << 20
_MAX_DEFLATION = 1033  # how many bytes one byte of a .gz file can become, according to zlib's documentation


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
        raise ValueError(f"{path}: damaged gzip file: {' '.join(str(error).split())}; copy it again") from error
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
