"""Files that are written whole, files of JSON lines, and JSON itself."""

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

# The folder that holds the package: of a checkout, its root.
ROOT = Path(__file__).resolve().parents[2]


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace `path` in one step: readers and a kill see the old file or the new one."""
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
    raise TypeError(f"not a plain value: {value!r}")


def to_json(content: Mapping[str, Any], *, indent: int | None = None) -> str:
    """JSON with NaN and infinities as null: standard JSON has no words for them."""

    def plain(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list | tuple) else value

    return json.dumps(plain(content), indent=indent, default=_json_default)


def append_line(path: Path, content: Mapping[str, Any]) -> None:
    """Add one object to a .jsonl file. A kill may cut the line short; `read_lines` leaves such a line out."""
    with path.open("a+b") as file:
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read())[1] != b"\n":
            file.write(b"\n")  # end the line that a kill cut short, so that it does not spoil this one
        file.write((to_json(content) + "\n").encode())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl; a line cut short by a kill is left out, and a file that is not there is empty."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
    return found


def now() -> str:
    """The local time as the files have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def content_hash(paths: Iterable[Path]) -> str:
    """The first 12 hex digits of a sha256 over names and bytes."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def folder_name(text: str) -> str:
    """`text` with everything that is awkward in a file's name replaced, and at most 120 characters of it."""
    return re.sub(r"[^A-Za-z0-9._=+-]+", "_", text)[:120].strip("_")
