"""Atomic writes, JSON and JSON lines."""

import contextlib
import hashlib
import json
import math
import os
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# The folder that contains the package; in a checkout, the root of the repository.
ROOT = Path(__file__).resolve().parents[2]


def write_whole(path: Path, content: str | bytes) -> None:
    """Write `path` atomically: readers see the old file or the new one, even if the process is killed."""
    data = content.encode() if isinstance(content, str) else content
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


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
    with path.open("a+b") as file:
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read())[1] != b"\n":
            file.write(b"\n")  # end a line that a kill truncated, so that the new line is valid
        file.write((to_json(content) + "\n").encode())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file, without truncated lines; empty if the file does not exist."""
    objects = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                objects.append(json.loads(line))
    return objects


def now() -> str:
    """The local time, in the format used in all files."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def content_hash(paths: Iterable[Path]) -> str:
    """The first 12 hex digits of a sha256 over the names and contents of `paths`."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def folder_name(text: str) -> str:
    """`text` as a file name: unusual characters become _, and the name is cut to 120 characters."""
    return re.sub(r"[^A-Za-z0-9._=+-]+", "_", text)[:120].strip("_")
