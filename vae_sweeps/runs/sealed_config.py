"""config.yaml: the point, with a first line that holds the run id, what else it is made of, and a checksum."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vae_sweeps.config.identity import is_run_id, run_id
from vae_sweeps.config.point import from_container
from vae_sweeps.system import yaml_files
from vae_sweeps.system.files import DamagedError
from vae_sweeps.system.logs import warn_once

_HEADER = re.compile(rb"# (run (\S+), data (\S*?)(?:, source ([0-9a-f]+))?), sha256 ([0-9a-f]{64})\n")


class Config(NamedTuple):
    """The content of a config.yaml, and of what its run id is made: data, and source of the user's own parts or ""."""

    content: dict[str, Any]
    run_id: str
    data_fingerprint: str
    source: str


def seal(content: Mapping[str, Any], run_id: str, data_fingerprint: str, source: str = "") -> str:
    """The text of a config.yaml."""
    text = yaml_files.dump(dict(content))
    about = f"run {run_id}, data {data_fingerprint}" + (f", source {source}" if source else "")
    return f"# {about}, sha256 {_sum_of(about.encode(), text.encode())}\n{text}"


class _File(NamedTuple):
    """The parts of a config.yaml, and whether its checksum is right."""

    run_id: str
    data_fingerprint: str
    source: str
    body: bytes
    is_sound: bool


def is_sound(path: Path, folder_name: str) -> bool:
    """Whether a config.yaml is to the byte what was written. Does not parse it. Raises FileNotFoundError."""
    try:
        return _read(path, folder_name).is_sound
    except DamagedError:
        return False


def unseal(path: Path, folder_name: str) -> Config:
    """Read a config.yaml. Raises DamagedError if it is not what was written, and FileNotFoundError.

    An edit of a key that cannot change the numbers, such as the place of the data, is accepted with a warning.
    """
    file = _read(path, folder_name)
    try:
        content = yaml_files.load(file.body.decode())
    except ValueError as error:
        raise DamagedError(f"{path}: damaged: {error}") from error
    if not file.is_sound:
        if not _is_harmless(content, file):
            raise DamagedError(f"{path}: damaged: its content does not match its checksum")
        warn_once(f"{path}: changed by hand, in keys that do not change the numbers")
    return Config(content, file.run_id, file.data_fingerprint, file.source)


def _read(path: Path, folder_name: str) -> _File:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read ({error.strerror})") from error
    header = _HEADER.match(text)
    if header is None:
        raise DamagedError(f"{path}: damaged: its first line is not the one that was written")
    about, name, data, source, sha256 = (group.decode(errors="replace") for group in header.groups(b""))
    body = text[header.end() :]
    expected = folder_name.rsplit("-", 1)[-1]
    if is_run_id(expected) and name != expected:
        raise DamagedError(f"{path}: damaged: it is the config of run {name}, but the folder is named {expected}")
    return _File(name, data, source, body, _sum_of(about.encode(), body) == sha256)


def id_of(path: Path) -> str | None:
    """The run id in the first line of a config.yaml; None if it cannot be read."""
    header = _header_of(path)
    return header[2].decode(errors="replace") if header else None


def source_of(path: Path) -> str:
    """The digest of the source in the first line of a config.yaml; "" if it has none, or if it cannot be read."""
    header = _header_of(path)
    return header[4].decode() if header and header[4] else ""


def _header_of(path: Path) -> re.Match[bytes] | None:
    try:
        with path.open("rb") as file:
            return _HEADER.match(file.readline(300))
    except OSError:
        return None


def _is_harmless(content: Any, file: _File) -> bool:
    """Whether the run id still comes out."""
    try:
        return run_id(from_container(content), file.data_fingerprint, file.source) == file.run_id
    except (ValueError, TypeError, KeyError, AttributeError):
        return False


def _sum_of(about: bytes, body: bytes) -> str:
    return hashlib.sha256(about + b"\0" + body).hexdigest()
