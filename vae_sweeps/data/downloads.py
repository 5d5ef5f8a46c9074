"""Find a data set's files in a folder, and download those that are missing."""

import contextlib
import gzip
import hashlib
import io
import logging
import os
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Literal
from urllib.request import urlopen

from vae_sweeps.data.bars import bar
from vae_sweeps.system.files import write_whole
from vae_sweeps.system.memory import in_gb

log = logging.getLogger(__name__)

_SOCKET_TIMEOUT_S = 20
# More than any of the files has, zipped or not: what a server sends is not unzipped without end.
_MAX_DOWNLOAD_BYTES = 1 << 28
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """Where to download files, and the sum of each in hex: its sha256, or its md5 if that alone is published.

    They are served as they are (`served_as` is plain), or each as `<mirror><name>.gz`. The sums are then of the .gz
    files (gz), or of what they contain (unzipped), since mirrors may compress differently.
    """

    mirrors: tuple[str, ...]
    sums: dict[str, str]
    served_as: Literal["plain", "gz", "unzipped"]
    algorithm: Literal["sha256", "md5"] = "sha256"

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
        raise ValueError(f"data.root={root}: is a file; must be the folder of {', '.join(source.sums)}")
    missing = [name for name in source.sums if _present(folder, name) is None]
    try:
        for name in missing:
            content = _download(name, source)
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / f"{name}{source.ending}", content)
    except (OSError, ValueError) as error:
        missing = [name for name in source.sums if _present(folder, name) is None]
        form = " (plain or .gz)" if source.ending else ""
        raise ValueError(
            f"data.root={root}: {', '.join(missing)}{form} missing, and the download failed: "
            f"{_one_line(error)}; copy the files there, or set data.root to the folder that has them"
        ) from error
    return {name: path for name in source.sums if (path := _present(folder, name))}


def _present(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _download(name: str, source: Source) -> bytes:
    """Download the file from the first mirror with the right sum. Raises ValueError with each mirror's error."""
    expected, failures = source.sums[name], []
    for url in (f"{mirror}{name}{source.ending}" for mirror in source.mirrors):
        try:
            content = _get(url)
            actual = _sum_unzipped(content, source) if source.served_as == "unzipped" else _sum(content, source)
        except (OSError, HTTPException) as error:
            failures.append(f"{url}: {error}")
            continue
        if actual == expected:
            return content
        failures.append(f"{url}: {source.algorithm} {actual[:12]}..., expected {expected[:12]}...")
    raise ValueError("; ".join(failures))


def _get(url: str) -> bytes:
    log.info("downloading %s", url)
    with (
        urlopen(url, timeout=_SOCKET_TIMEOUT_S) as response,
        bar(url.rsplit("/", 1)[-1], response.length, is_of_bytes=True) as advance,
    ):
        content = bytearray()
        while chunk := response.read(1 << 16):
            content += chunk
            if len(content) > _MAX_DOWNLOAD_BYTES:
                raise OSError(f"more than {in_gb(_MAX_DOWNLOAD_BYTES)}, more than any such file has")
            advance(len(chunk))
    return bytes(content)


def _sum(content: bytes, source: Source) -> str:
    return hashlib.new(source.algorithm, content, usedforsecurity=False).hexdigest()


def _sum_unzipped(content: bytes, source: Source) -> str:
    """The sum of as much as can be unzipped, a piece at a time. Raises OSError if there is no end to it."""
    digest, num_bytes = hashlib.new(source.algorithm, usedforsecurity=False), 0
    unreadable = contextlib.suppress(EOFError, gzip.BadGzipFile, zlib.error)
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file, unreadable:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            if (num_bytes := num_bytes + len(piece)) > _MAX_DOWNLOAD_BYTES:
                raise OSError(f"more than {in_gb(_MAX_DOWNLOAD_BYTES)} unzipped, more than any such file has")
    return digest.hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
