"""What the schema says of a key: its name, what it allows, the choices that have it."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields
from typing import Any

from omegaconf import MISSING, OmegaConf

from vae_sweeps.config.schema import GROUP_SCHEMAS, Evaluation, Objective, Optim, Pictures, Point, Tracker

TYPED_GROUPS: dict[str, type] = {
    "objective": Objective,
    "optim": Optim,
    "evaluation": Evaluation,
    "tracker": Tracker,
    "pictures": Pictures,
}


def not_numbers() -> set[str]:
    """Top-level keys that cannot change a point's numbers."""
    return {f.name for f in fields(Point) if not f.metadata["numbers"]}


def _schemas_at(prefix: str) -> list[type]:
    """The schemas that describe the keys under `prefix` ("" for the top): several where a group has several."""
    if not prefix:
        return [Point]
    if prefix in TYPED_GROUPS:
        return [TYPED_GROUPS[prefix]]
    return [schema for (group, _), schema in GROUP_SCHEMAS.items() if group.replace("/", ".") == prefix]


def without_late_defaults(group: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """A group's content ("" for the top's) without the keys that have a default in the schema and stand at it.

    Such a key came later than the first runs, and at its default it means what there was before it. A group without a
    schema, as one's own may be, stays as it is.
    """
    late: dict[str, Any] = {}
    for schema in _schemas_at(group):
        own = {f.name: f.default for f in fields(schema)}
        needed = {f.name for f in fields(schema) if f.default == MISSING and f.metadata["numbers"]}
        if schema is Point or (content.keys() <= own.keys() and content.keys() >= needed):
            late |= {name: default for name, default in own.items() if default not in (MISSING, NO_DEFAULT)}

    def is_at_default(name: str, value: Any) -> bool:
        return name in late and (list(late[name]) if isinstance(late[name], tuple) else late[name]) == value

    return {name: value for name, value in content.items() if not is_at_default(name, value)}


def known_keys(prefix: str) -> list[str]:
    """Full names of the keys under `prefix`, a group's name or "" for the top."""
    return [f"{prefix}.{f.name}" if prefix else f.name for schema in _schemas_at(prefix) for f in fields(schema)]


def describe(full_key: str) -> str | None:
    """What the schema allows for `full_key`, in words; None if it knows no such key."""
    prefix, _, name = full_key.rpartition(".")
    for schema in _schemas_at(prefix):
        for f in fields(schema):
            if f.name == name:
                return f.metadata["allowed"]
    return None


def did_you_mean(name: str, known: list[str]) -> str:
    """`name`'s nearest neighbours among `known` and the whole list, for the end of an error line."""
    public = sorted({k for k in known if not k.rpartition(".")[2].startswith("_")})

    def last(full: str) -> str:
        return re.split(r"[./]", full)[-1]

    close = difflib.get_close_matches(last(name), {last(full) for full in public}, n=2)
    starts = [full for full in public if last(full).startswith(last(name))]
    near = " or ".join(starts or [full for full in public if last(full) in close])
    return (f"did you mean {near}? " if near else "") + f"known: {', '.join(public) or 'none'}"


def is_schema(group: str, choice: str) -> bool:
    """Whether Hydra lists `choice` in `group` only because a schema is stored there."""
    return (group, choice) in GROUP_SCHEMAS


def choices_with(full_key: str) -> list[str]:
    """The choices of a group whose schema has `full_key`, for groups where each choice has its own keys."""
    group, _, name = full_key.rpartition(".")
    return [
        choice.removesuffix("_schema")
        for (of_group, choice), schema in GROUP_SCHEMAS.items()
        if of_group.replace("/", ".") == group and name in {f.name for f in fields(schema)}
    ]


def as_typed(value: Any) -> str:
    """A value as one would write it in a command."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    if isinstance(value, list):
        return f"[{','.join(map(as_typed, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{name}:{as_typed(inner)}' for name, inner in value.items())}}}"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
