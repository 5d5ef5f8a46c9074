"""Check composed configs and convert them to points and launch options; convert points to and from dicts."""

from collections.abc import Iterator, Mapping
from dataclasses import Field, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING, DictConfig, OmegaConf

from vae_sweeps.config.keys import TYPED_GROUPS, as_typed, describe, did_you_mean, known_keys, option_names
from vae_sweeps.config.launch_options import LaunchOptions, options_from
from vae_sweeps.config.schema import Point
from vae_sweeps.system import yaml_files


def _checked_fields(node: DictConfig, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """Yield (full key, field, value) for every key of `node` and its groups that has a schema."""
    schema = OmegaConf.get_type(node)
    known = {f.name: f for f in fields(schema)} if is_dataclass(schema) else {}
    for name in node:
        full_key, value = f"{prefix}{name}", node[name]
        if isinstance(value, DictConfig):
            yield from _checked_fields(value, f"{full_key}.")
        elif str(name) in known:
            yield full_key, known[str(name)], value


def to_command(cfg: DictConfig) -> tuple[Point, LaunchOptions]:
    """Check every value of a composed config, and return its point and launch options.

    Raises ValueError with the key, its value and what is allowed.
    """
    _check_names(cfg)
    check_values(cfg)
    if cfg.steps is None and cfg.epochs is None:
        raise ValueError("epochs=null: must be a whole number >= 1 if steps is null; set one of the two")
    _check_together(cfg)
    content = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(content, dict)
    if content["steps"] is not None:
        content["epochs"] = None  # steps takes precedence, so that equal points have equal ids
    for name in ("root", "cache"):
        if (folder := content["data"].get(name)) is not None:
            content["data"][name] = str(Path(folder).expanduser().resolve())  # notebooks run in other folders
    options = {name: content.pop(name) for name in option_names()}
    return from_container(cast(dict[str, Any], content)), options_from(options)


def check_values(node: DictConfig, prefix: str = "") -> None:
    """Raise ValueError with the key, its value and what is allowed, if a value of `node` is not allowed."""
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
            raise ValueError(f"~{name}: must not be deleted; every command needs {name}, {describe(name)}")


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
            f"arch.output={output}: must be identity with likelihood=bernoulli, which applies a sigmoid; "
            "or choose likelihood=gaussian"
        )
    if not OmegaConf.is_dict(cfg.evaluation.features):
        chosen = cfg.evaluation.features
        raise ValueError(f"evaluation.features={chosen}: must be chosen as a group: evaluation/features={chosen}")
    if cfg.objective.error == "squared" and not isinstance(cfg.likelihood.get("sigma"), float | int):
        raise ValueError(
            "objective.error=squared: must be nll unless likelihood.sigma is a number; "
            "add likelihood=gaussian, or use objective=elbo instead of mse"
        )
    _check_shares(cfg)
    if cfg.sweep is not None and (not cfg.sweep.strip(". ") or "/" in cfg.sweep or len(cfg.sweep) > 100):
        raise ValueError(f"sweep={cfg.sweep}: must be a folder name of at most 100 characters, without /")


def _check_shares(cfg: DictConfig) -> None:
    if cfg.devices > cfg.batch_size:
        raise ValueError(
            f"devices={cfg.devices}: must be at most batch_size={cfg.batch_size}, since each takes a share of it; "
            "use fewer devices or a larger batch"
        )
    if cfg.towers > 1 and cfg.towers % cfg.devices:
        raise ValueError(f"towers={cfg.towers}: must be 1, or a multiple of devices={cfg.devices}")
    if cfg.devices > 1 and ":" in cfg.device:
        raise ValueError(f"device={cfg.device}: must be auto, cpu or cuda with devices={cfg.devices}")


def from_container(content: Any) -> Point:
    """The `Point` that `to_container` converted to dicts. Raises ValueError if keys are missing or unknown."""
    names = set(content) if isinstance(content, Mapping) else set()
    needed = {f.name for f in fields(Point) if f.default == MISSING}
    if wrong := sorted((needed - names) | (names - {f.name for f in fields(Point)})):
        raise ValueError(f"not a point of this version: missing or unknown keys {', '.join(wrong)}")
    groups = {name: TYPED_GROUPS[name](**value) for name, value in content.items() if name in TYPED_GROUPS}
    return Point(**{**content, **groups})


def to_container(point: Point) -> dict[str, Any]:
    """Convert a point to new dicts, lists and scalars; the inverse of `from_container`."""
    return asdict(point)


def read_point(path: Path) -> Point:
    """Read the point in a run's config.yaml."""
    return from_container(yaml_files.load(path.read_text(encoding="utf-8")))
