"""Run ids, and the names of run folders."""

import hashlib
import json
import re
from dataclasses import fields
from typing import Any

from vae_sweeps.config.keys import GROUP_SCHEMAS, not_numbers, without_later_keys
from vae_sweeps.config.point import to_container
from vae_sweeps.config.schema import Point

# Increased when a change to the code changes the numbers of old configs.
SCHEMA_VERSION = 2


def identifying_content(point: Point) -> dict[str, Any]:
    """The config without keys that cannot change the numbers, and without later keys that have their default."""
    content = {name: value for name, value in to_container(point).items() if name not in not_numbers()}
    for (group, _), schema in GROUP_SCHEMAS.items():
        for f in fields(schema):
            if not f.metadata["numbers"] and isinstance(content.get(group), dict):
                content[group].pop(f.name, None)
    groups = {name: without_later_keys(name, inner) for name, inner in content.items() if isinstance(inner, dict)}
    return without_later_keys("", content | groups)


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


def run_id(point: Point, data_fingerprint: str) -> str:
    """The first 12 hex digits of the sha256 of what a point's numbers depend on: its config and the data's content."""
    identity = [SCHEMA_VERSION, identifying_content(point), data_fingerprint]
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
