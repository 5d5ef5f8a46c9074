"""Between a composed config and a `Point`: every value is checked, and a mistake is one line."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from vae_sweeps.schema import GROUP_SCHEMAS, Evaluation, Objective, Optim, Pictures, Point, Tracker

_TYPED_GROUPS: dict[str, type] = {
    "objective": Objective,
    "optim": Optim,
    "evaluation": Evaluation,
    "tracker": Tracker,
    "pictures": Pictures,
}


def _checked_fields(node: DictConfig, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """Yield (full key, field, value) of every field of `node` and its groups that a schema describes."""
    schema = OmegaConf.get_type(node)
    known = {f.name: f for f in fields(schema)} if is_dataclass(schema) else {}
    for name in node:
        full_key, value = f"{prefix}{name}", node[name]
        if isinstance(value, DictConfig):
            yield from _checked_fields(value, f"{full_key}.")
        elif str(name) in known:
            yield full_key, known[str(name)], value


def to_point(cfg: DictConfig) -> Point:
    """Check every value of a composed config and return it as a plain `Point`.

    Raises ValueError with the key, its value and what is allowed.
    """
    _check_names(cfg)
    check_values(cfg)
    if cfg.steps is None and cfg.epochs is None:
        raise ValueError("epochs=null: must be a whole number >= 1 where steps is null; set one of the two")
    _check_together(cfg)
    content = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(content, dict)
    if content["steps"] is not None:
        content["epochs"] = None  # steps win, and a point has one length
    for name in ("root", "cache"):
        if (place := content["data"].get(name)) is not None:
            content["data"][name] = str(Path(place).expanduser().resolve())  # notebooks open runs from other folders
    return from_container(content)


def check_values(node: DictConfig, prefix: str = "") -> None:
    """Raise ValueError with the key, its value and what is allowed, where a value of `node` is not."""
    for full_key, spec, value in _checked_fields(node, prefix):
        if not spec.metadata["check"](value):
            raise ValueError(f"{full_key}={as_typed(value)}: must be {spec.metadata['allowed']}")


def _check_names(cfg: DictConfig) -> None:
    known = known_keys("")
    for name in map(str, cfg):
        if name not in known:
            raise ValueError(f"{name}={as_typed(cfg[name])}: no such key; {did_you_mean(name, known)}")
    for name in known:
        if name not in cfg or OmegaConf.is_missing(cfg, name):
            raise ValueError(f"~{name}: must not be left out; every point has {name}, {describe(name)}")


def _check_together(cfg: DictConfig) -> None:
    target = str(cfg.likelihood.get("_target_"))
    pixel_range = cfg.data.get("pixel_range", [0, 1])
    if target.endswith("Bernoulli") and list(pixel_range) != [0, 1]:
        raise ValueError(
            f"data.pixel_range={as_typed(pixel_range)}: must be [0,1] with likelihood=bernoulli; "
            "or choose likelihood=gaussian"
        )
    output = cfg.arch.get("output", "identity")
    if target.endswith("Bernoulli") and output != "identity":
        raise ValueError(
            f"arch.output={output}: must be identity with likelihood=bernoulli, whose sigmoid follows; "
            "or choose likelihood=gaussian"
        )
    if not OmegaConf.is_dict(cfg.evaluation.features):
        chosen = cfg.evaluation.features
        raise ValueError(f"evaluation.features={chosen}: must be chosen as a group: evaluation/features={chosen}")
    if cfg.objective.error == "squared" and not isinstance(cfg.likelihood.get("sigma"), float | int):
        raise ValueError(
            "objective.error=squared: must be nll unless likelihood.sigma is a number; "
            "add likelihood=gaussian, or take objective=elbo instead of mse"
        )
    _check_shares(cfg)
    if cfg.sweep is not None and (not cfg.sweep.strip(". ") or "/" in cfg.sweep or len(cfg.sweep) > 100):
        raise ValueError(f"sweep={cfg.sweep}: must be a folder's name of at most 100 characters, without /")


def _check_shares(cfg: DictConfig) -> None:
    if cfg.devices > cfg.batch_size:
        raise ValueError(
            f"devices={cfg.devices}: must be at most batch_size={cfg.batch_size}, of which each takes a share; "
            "take fewer devices or a larger batch"
        )
    if cfg.towers > 1 and cfg.towers % cfg.devices:
        raise ValueError(f"towers={cfg.towers}: must be 1, or a multiple of devices={cfg.devices}")
    if cfg.devices > 1 and ":" in cfg.device:
        raise ValueError(f"device={cfg.device}: must be auto, cpu or cuda with devices={cfg.devices}")


def from_container(content: Any) -> Point:
    """A `Point` from plain containers, as `to_container` made them. Raises ValueError if keys do not fit."""
    own = set(content) if isinstance(content, Mapping) else set()
    needed = {f.name for f in fields(Point) if f.default == MISSING}
    if odd := sorted((needed - own) | (own - {f.name for f in fields(Point)})):
        raise ValueError(f"not a point of this version: {', '.join(odd)}")
    groups = {name: _TYPED_GROUPS[name](**value) for name, value in content.items() if name in _TYPED_GROUPS}
    return Point(**{**content, **groups})


def to_container(point: Point) -> dict[str, Any]:
    """Plain dicts, lists and scalars, shared with nobody; the inverse of `from_container`."""
    return asdict(point)


def read_point(path: Path) -> Point:
    """The point that a run's config.yaml holds."""
    return from_container(OmegaConf.to_container(OmegaConf.load(path)))


def not_numbers() -> set[str]:
    """Top-level keys that cannot change a point's numbers."""
    return {f.name for f in fields(Point) if not f.metadata["numbers"]}


def _schemas_at(prefix: str) -> list[type]:
    """The schemas that describe the keys under `prefix` ("" for the top): several where a group has several."""
    if not prefix:
        return [Point]
    if prefix in _TYPED_GROUPS:
        return [_TYPED_GROUPS[prefix]]
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

    def own(full: str) -> str:
        return re.split(r"[./]", full)[-1]

    def closeness_to(known_own: str) -> float:
        is_start = known_own.startswith(own(name))
        return 1.0 if is_start else difflib.SequenceMatcher(None, own(name), known_own).ratio()

    closeness = {k: closeness_to(own(k)) for k in public}
    best = max(0.6, *closeness.values()) if closeness else 1.0
    near = " or ".join(k for k in public if closeness[k] == best)
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
