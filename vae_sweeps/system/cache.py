"""What is worth making once for a machine: trained features, probes on pixels. Losing the cache loses nothing."""

import hashlib
import io
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import platformdirs
import torch
from filelock import FileLock

from vae_sweeps.system.files import write_whole

log = logging.getLogger(__name__)

_SUM_BYTES = hashlib.sha256().digest_size


def folder() -> Path:
    """vae-sweeps in the user's cache folder: on Linux in $XDG_CACHE_HOME, or in ~/.cache if that is not set."""
    return platformdirs.user_cache_path("vae-sweeps", appauthor=False)


def digest(content: Any) -> str:
    """The first 12 hex digits of the sha256 of plain `content`."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def once(kind: str, recipe: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` gives, read from the cache if it was made before by the same `recipe`.

    `recipe` is plain and says everything that the content depends on; the content is a dict of tensors and plain
    values. Of several processes that want it at once, one makes it and the others wait. A damaged file is made
    again; where nothing can be written, the content is made and not kept.
    """
    path = folder() / f"{kind}-{digest(recipe)}.bin"
    if (found := _read(path)) is not None:
        return found
    lock = FileLock(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        log.debug("%s: not cached (%s)", path, error)
        return make()
    try:
        if (found := _read(path)) is None:
            found = make()
            _write(path, found)
    finally:
        lock.release()
    return found


def _write(path: Path, content: Mapping[str, Any]) -> None:
    file = io.BytesIO()
    torch.save(dict(content), file)
    payload = file.getvalue()
    try:
        write_whole(path, hashlib.sha256(payload).digest() + payload)
    except OSError as error:
        log.debug("%s: not cached (%s)", path, error)


def _read(path: Path) -> dict[str, Any] | None:
    """The content, or None if there is none: neither a file's archive nor torch notices every flipped bit."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    payload = stored[_SUM_BYTES:]
    if hashlib.sha256(payload).digest() != stored[:_SUM_BYTES]:
        log.debug("%s: damaged, made again", path)
        return None
    return torch.load(io.BytesIO(payload), weights_only=True)
