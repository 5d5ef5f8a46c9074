"""Points as pure functions see them: identity, readable names, and which of them can train together."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from itertools import pairwise
from typing import Any

from vae_sweeps.config import not_numbers, to_container, without_late_defaults
from vae_sweeps.schema import GROUP_SCHEMAS, Point

# Raised when a change of the code changes the numbers of old configs.
SCHEMA_VERSION = 1

# Padding latent sizes to the largest may cost this much more arithmetic than the points need, and no more.
_MAX_PADDED_COST = 1.25


def _without_places(point: Point) -> dict[str, Any]:
    """The config without what cannot change the numbers: places, and later keys at what was done before them."""
    content = {name: value for name, value in to_container(point).items() if name not in not_numbers()}
    for (group, _), schema in GROUP_SCHEMAS.items():
        for f in fields(schema):
            if not f.metadata["numbers"] and isinstance(content.get(group), dict):
                content[group].pop(f.name, None)
    groups = {name: without_late_defaults(name, inner) for name, inner in content.items() if isinstance(inner, dict)}
    return without_late_defaults("", content | groups)


def _canonical(value: Any) -> Any:
    """Numbers that are equal become the same text: 1 and 1.0, 0.01 and 1e-2."""
    if isinstance(value, dict):
        return {name: _canonical(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(v) for v in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _text(content: Any) -> str:
    return json.dumps(_canonical(content), sort_keys=True)


def run_id(point: Point, data_fingerprint: str) -> str:
    """First 12 hex digits of the sha256 of what the point's numbers depend on: its config and the data's content."""
    identity = [SCHEMA_VERSION, _without_places(point), data_fingerprint]
    return hashlib.sha256(_text(identity).encode()).hexdigest()[:12]


def short_name(target: str) -> str:
    """A group's readable name from its `_target_`: vae_sweeps.networks.mlp is mlp."""
    return target.rsplit(".", 1)[-1].lower()


def run_name(point: Point, run_id: str) -> str:
    """The run folder's name: readable first, unique by its id."""
    groups = [short_name(str(group["_target_"])) for group in (point.data, point.arch, point.likelihood)]
    return f"{'-'.join(groups)}-beta{point.beta:g}-latent{point.latent}-seed{point.seed}-{run_id}"


def pack_key(point: Point) -> str:
    """Points with equal keys can train together: what differs between them is a number for each, not a shape.

    That is beta, the seed, the latent size (padded), a fixed sigma, and the convention of the objective.
    """
    content = _without_places(point)
    for name in ("beta", "seed", "latent"):
        del content[name]
    sigma = content["likelihood"].get("sigma")
    if sigma is not None and not isinstance(sigma, str):
        content["likelihood"]["sigma"] = "fixed"
    content["objective"] = content["objective"]["batch"]
    # Not in the id, but a pack reads one dataset, and logs and draws all its points at once.
    shown = [point.log_every_steps, point.log_steps, point.pictures_every_epochs, list(point.pictures_at_epochs)]
    return _text([content, point.data.get("root"), *shown, asdict(point.pictures)])


def group(points: Sequence[Point], costs: Sequence["Cost"], limits: Sequence[int]) -> list[list[int]]:
    """Indices of `points` in packs: equal keys, near latent sizes, at most `limits[i]` with point i, as even as can be.

    Points are taken by latent size. A pack is closed where one more would make its padded cost more than
    a quarter dearer than the sum of its points' own.
    """
    by_key: dict[str, list[int]] = {}
    for i, point in enumerate(points):
        by_key.setdefault(pack_key(point), []).append(i)
    packs: list[list[int]] = []
    for members in by_key.values():
        members.sort(key=lambda i: points[i].latent)
        affordable: list[list[int]] = []
        for i in members:
            if affordable:
                candidate = [*affordable[-1], i]
                padded = len(candidate) * costs[i](points[i].latent)
                if padded <= _MAX_PADDED_COST * sum(costs[j](points[j].latent) for j in candidate):
                    affordable[-1].append(i)
                    continue
            affordable.append([i])
        for pack in affordable:
            num_packs = -(-len(pack) // min(limits[i] for i in pack))
            cuts = [len(pack) * n // num_packs for n in range(num_packs + 1)]
            packs.extend(sorted(pack[a:b]) for a, b in pairwise(cuts))
    return sorted(packs)


class Cost:
    """Arithmetic of one training step of a point as a function of its latent size, up to a factor.

    Linear in the latent size, so it is fixed by the model's number of multiplications with one latent and with two.
    """

    def __init__(self, with_one: int, with_two: int) -> None:
        self.with_one, self.per_latent = with_one, with_two - with_one

    def __call__(self, latent: int) -> float:
        return self.with_one + (latent - 1) * self.per_latent
