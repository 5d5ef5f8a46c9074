"""The settings of a sweep's last submission, which `retry` submits with again.

They hold shell lines, and name what jobs may call. So the file is the user's alone and signed with a key in the user's
cache: a sweep folder from someone else cannot make `retry` run anything.
"""

import errno
import hashlib
import hmac
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vae_sweeps.launch.request import Launch
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import cache, private

log = logging.getLogger(__name__)

_KEY_BYTES = 32


def save(launch: Launch) -> None:
    """Store the settings of the launch beside its jobs."""
    assert launch.sweep is not None
    assert launch.cluster is not None
    settings = {"launcher": asdict(launch.cluster), "options": asdict(launch.options)}
    text = json.dumps({**settings, "allowed": sorted(launch.allowed)})
    try:
        signature = _signature(text)
    except OSError as error:
        log.warning("%s: cannot be written (%s), so `vae-sweeps retry` will need --trust", _key_path(), error.strerror)
        signature = ""
    private.make_folder(launch.sweep.jobs)
    private.write(launch.sweep.submission_settings, f"{signature}\n{text}\n")


def read(sweep: SweepFolder, *, is_trusted: bool = False) -> Mapping[str, Any]:
    """The settings that `save` stored: "launcher", "options" and "allowed".

    Raises ValueError if there are none, or if this user did not store them; the latter is not checked if `is_trusted`.
    """
    private.check(sweep.jobs)
    try:
        signature, _, text = sweep.submission_settings.read_text().partition("\n")
        settings = json.loads(text)
    except (OSError, ValueError) as error:
        raise ValueError(f"{sweep.submission_settings}: cannot be read; launch again with the same command") from error
    if not is_trusted and not _is_ours(signature, text.removesuffix("\n")):
        raise ValueError(
            f"{sweep.submission_settings}: was not written by you here, and its shell lines would be run; "
            "launch again with your own command, or use --trust"
        )
    return settings


def _is_ours(signature: str, text: str) -> bool:
    try:
        return hmac.compare_digest(signature, _signature(text))
    except OSError:
        return False  # without a key


def _signature(text: str) -> str:
    return hmac.new(_key(), text.encode(), hashlib.sha256).hexdigest()


def _key_path() -> Path:
    return private.own(cache.folder() / "submissions.key")  # people may share a cache


def _key() -> bytes:
    """The user's key, made when it is first needed. If it is lost, `retry` needs --trust once."""
    path = _key_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if path.lstat().st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "belongs to another user", str(path))
        return path.read_bytes()
    private.write(path, os.urandom(_KEY_BYTES).hex())
    return path.read_bytes()
