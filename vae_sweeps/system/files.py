"""Atomic writes, JSON and JSON lines."""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

# The folder that contains the package; in a checkout, the root of the repository.
ROOT = Path(__file__).resolve().parents[2]
# How sweeps are launched from here: a wheel has no launch.py.
LAUNCH = ("python", "launch.py") if (ROOT / "launch.py").is_file() else ("vae-sweeps", "launch")
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%z"


class DamagedError(ValueError):
    """A file does not hold what was written into it. The text names the file, and says what to do."""


def create(path: Path, mode: int = 0o666) -> BinaryIO:
    """Create a file that does not exist yet, and open it for writing. Does not follow links."""
    return open(path, "x+b", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), mode))


def write_whole(path: Path, content: str | bytes, *, aside: Path | None = None, mode: int = 0o666) -> None:
    """Write `path` atomically: readers see the old file or the new one, even if the process is killed.

    The file is prepared in the folder `aside`, by default that of `path`, under a name that cannot be predicted. Its
    mode is `mode` without what the umask takes away.
    """
    data = content.encode() if isinstance(content, str) else content
    prepared = (aside or path.parent) / f".{path.name}.{secrets.token_hex(8)}.tmp"
    try:
        with create(prepared, mode) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(prepared, path)
    finally:
        prepared.unlink(missing_ok=True)


# No space, no quota, no inode, read-only, broken or vanished disks.
_STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM}


def is_storage_error(error: BaseException) -> bool:
    """Whether the error is that of a disk that is full, read-only or broken."""
    return isinstance(error, OSError) and error.errno in _STORAGE_ERRORS


_SUM = "sha256"


def seal(content: Mapping[str, Any]) -> str:
    """The content as JSON, with its checksum as the last key; `unseal` is the inverse."""
    text = to_json(content, indent=2)
    return f"{text.removesuffix('}').rstrip()},\n  {json.dumps(_SUM)}: {json.dumps(_sum_of(json.loads(text)))}\n}}\n"


def unseal(data: bytes, path: Path, then: str = "") -> dict[str, Any]:
    """The content that `seal` made into `data`. Raises DamagedError with `path` and `then`, which says what to do."""
    try:
        content = json.loads(data)
        if content.pop(_SUM) == _sum_of(content):
            return content
        reason = "its content does not match its checksum"
    except (ValueError, RecursionError):
        reason = "not JSON in UTF-8"
    except (KeyError, TypeError, AttributeError):
        reason = "it has no checksum"
    raise DamagedError(f"{path}: damaged: {reason}" + (f"; {then}" if then else ""))


def _sum_of(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _json_default(value: Any) -> Any:
    raise TypeError(f"not serialisable as JSON: {value!r}")


def to_json(content: Mapping[str, Any], *, indent: int | None = None) -> str:
    """JSON with NaN and infinities as null, since standard JSON cannot represent them."""

    def plain(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list | tuple) else value

    try:
        return json.dumps(content, indent=indent, default=_json_default, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(plain(content), indent=indent, default=_json_default)


def append_line(path: Path, content: Mapping[str, Any]) -> None:
    """Append one object to a .jsonl file. A kill may truncate the line; `read_lines` skips truncated lines."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o666), "a+b") as file:
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read())[1] != b"\n":
            file.write(b"\n")  # end a line that a kill truncated, so that the new line is valid
        file.write((to_json(content) + "\n").encode())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file, without truncated lines; empty if the file does not exist."""
    objects = []
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            with contextlib.suppress(ValueError):
                if isinstance(content := json.loads(line), dict):
                    objects.append(content)
    return objects


def now() -> str:
    """The local time, in the format used in all files."""
    return time.strftime(TIME_FORMAT)


def folder_name(text: str) -> str:
    """`text` as a file name: unusual characters become _, and the name is cut to 120 characters."""
    return re.sub(r"[^A-Za-z0-9._=+-]+", "_", text)[:120].strip("_")
