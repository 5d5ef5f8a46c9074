"""Run ids, and the names of run folders."""

import hashlib
import json
import re
from typing import Any

from vae_sweeps.config.keys import not_numbers, not_numbers_of, without_later_keys
from vae_sweeps.config.point import to_container
from vae_sweeps.config.schema import Point

# Increased when a change to the code changes the numbers of old configs.
SCHEMA_VERSION = 3


def identifying_content(point: Point) -> dict[str, Any]:
    """The config without keys that cannot change the numbers, and without later keys that have their default."""
    content = {name: value for name, value in to_container(point).items() if name not in not_numbers()}
    for name, inner in content.items():
        if isinstance(inner, dict):
            left_out = not_numbers_of(name)
            kept = {key: value for key, value in inner.items() if key not in left_out}
            content[name] = without_later_keys(name, kept)
    return without_later_keys("", content)


def _canonical(value: Any) -> Any:
    """Convert integers to floats, so that equal numbers have the same JSON: 1 and 1.0."""
    if isinstance(value, dict):
        return {name: _canonical(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(v) for v in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def canonical_json(content: Any) -> str:
    """JSON that is identical for equal contents."""
    return json.dumps(_canonical(content), sort_keys=True)


def run_id(point: Point, data_fingerprint: str, source: str = "") -> str:
    """The first 12 hex digits of the sha256 of what a point's numbers depend on.

    That is its config, the data's content, and the `source` of the user's own parts (`source.digest`), if it has any.
    """
    identity = [SCHEMA_VERSION, identifying_content(point), data_fingerprint, *([source] if source else [])]
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:12]


def is_run_id(text: str) -> bool:
    """Whether `text` looks like a run id."""
    return re.fullmatch("[0-9a-f]{12}", text) is not None


def short_name(target: str) -> str:
    """A readable name for a `_target_`: mlp for vae_sweeps.models.mlp."""
    return target.rsplit(".", 1)[-1].lower()


def run_name(point: Point, run_id: str) -> str:
    """The run folder's name: a readable part, then the run id."""
    groups = [short_name(str(group["_target_"])) for group in (point.data, point.arch, point.likelihood)]
    return f"{'-'.join(groups)}-beta{point.beta:g}-latent{point.latent}-seed{point.seed}-{run_id}"
