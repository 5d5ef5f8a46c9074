"""The cache for results that are slow to compute, such as trained features. Deleting it is safe."""

import hashlib
import io
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import platformdirs

from vae_sweeps.system import lease
from vae_sweeps.system.files import write_whole

log = logging.getLogger(__name__)

_SUM_BYTES = hashlib.sha256().digest_size


def folder() -> Path:
    """The folder `vae-sweeps` in the user's cache folder: on Linux $XDG_CACHE_HOME, or ~/.cache if that is not set."""
    return platformdirs.user_cache_path("vae-sweeps", appauthor=False)


def digest(content: Any) -> str:
    """The first 12 hex digits of the sha256 of `content`, which must be serialisable as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def once(kind: str, recipe: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of `make`, from the cache if it was stored there under the same `recipe`.

    `recipe` must be serialisable as JSON and contain everything that the result depends on. The result is a dict of
    tensors, numbers and strings. If several processes ask at once, one computes it and the others wait. A damaged
    file is replaced. If the cache cannot be written, the result is computed each time.
    """
    path = folder() / f"{kind}-{digest(recipe)}.bin"
    if (content := _read(path)) is not None:
        return content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = lease.wait_for(path.parent, f".{path.stem}")
    except OSError as error:
        log.debug("%s: not cached (%s)", path, error)
        return make()
    with held:
        if (content := _read(path)) is None:
            content = make()
            _write(path, content)
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    import torch  # here, since the folder alone is asked for by commands without it

    file = io.BytesIO()
    torch.save(dict(content), file)
    payload = file.getvalue()
    try:
        write_whole(path, hashlib.sha256(payload).digest() + payload)
    except OSError as error:
        log.debug("%s: not cached (%s)", path, error)


def _read(path: Path) -> dict[str, Any] | None:
    """The content, or None if the file is missing or damaged. The checksum is ours: torch misses some flipped bits."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    payload = stored[_SUM_BYTES:]
    if hashlib.sha256(payload).digest() != stored[:_SUM_BYTES]:
        log.debug("%s: damaged; computing it again", path)
        return None
    import torch

    return torch.load(io.BytesIO(payload), weights_only=True)
