"""Look up keys in the schema: their names, what they allow, and the choices that have them."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import field, fields, make_dataclass
from functools import cache
from typing import Any

from omegaconf import MISSING, OmegaConf

from vae_sweeps.config.launch_options import Evaluation, LaunchOptions, Tracker
from vae_sweeps.config.launchers import LocalLauncher, SlurmLauncher
from vae_sweeps.config.schema import (
    Arrays,
    Bernoulli,
    Celeba,
    ContinuousBernoulli,
    Conv,
    DiscretizedLogistic,
    FactorialFile,
    Gaussian,
    HuggingFace,
    ImageFolder,
    Laplace,
    Mlp,
    Mnist,
    Objective,
    Optim,
    Pictures,
    Point,
    Sprites,
    TorchDataset,
)
from vae_sweeps.config.sweepers import AdaptiveSweeper, GridSweeper

# All keys of a command: those of a point and those of `LaunchOptions`. Unlike `LaunchOptions` it is not frozen, since
# OmegaConf makes configs of frozen classes read-only.
Command = make_dataclass(
    "Command",
    [(f.name, f.type, field(default=f.default, metadata=f.metadata)) for f in (*fields(Point), *fields(LaunchOptions))],
    namespace={"__module__": __name__},
)

# Groups whose choices all have the same schema.
TYPED_GROUPS: dict[str, type] = {
    "objective": Objective,
    "optim": Optim,
    "evaluation": Evaluation,
    "tracker": Tracker,
    "pictures": Pictures,
}

# Groups whose choices have different schemas; the keys are (group, name of the schema in Hydra's ConfigStore).
GROUP_SCHEMAS: dict[tuple[str, str], type] = {
    ("data", "mnist_schema"): Mnist,
    ("data", "image_folder_schema"): ImageFolder,
    ("data", "celeba_schema"): Celeba,
    ("data", "sprites_schema"): Sprites,
    ("data", "factorial_file_schema"): FactorialFile,
    ("data", "arrays_schema"): Arrays,
    ("data", "torch_dataset_schema"): TorchDataset,
    ("data", "huggingface_schema"): HuggingFace,
    ("arch", "mlp_schema"): Mlp,
    ("arch", "conv_schema"): Conv,
    ("likelihood", "bernoulli_schema"): Bernoulli,
    ("likelihood", "gaussian_schema"): Gaussian,
    ("likelihood", "continuous_bernoulli_schema"): ContinuousBernoulli,
    ("likelihood", "discretized_logistic_schema"): DiscretizedLogistic,
    ("likelihood", "laplace_schema"): Laplace,
    ("hydra/launcher", "local_schema"): LocalLauncher,
    ("hydra/launcher", "slurm_schema"): SlurmLauncher,
    ("hydra/sweeper", "grid_schema"): GridSweeper,
    ("hydra/sweeper", "adaptive_schema"): AdaptiveSweeper,
}


@cache
def option_names() -> frozenset[str]:
    """Top-level keys that are launch options, not part of a point."""
    return frozenset(f.name for f in fields(LaunchOptions))


@cache
def not_numbers() -> frozenset[str]:
    """Top-level keys that cannot change a point's numbers."""
    return frozenset(f.name for f in fields(Command) if not f.metadata["numbers"])


@cache
def top_level_names() -> frozenset[str]:
    """All top-level keys, groups included."""
    return frozenset(f.name for f in fields(Command))


def takes_whole_numbers(full_key: str) -> bool | None:
    """Whether a key takes whole numbers only; None if the schema does not have it."""
    types = _types_of(full_key)
    return types <= {int, int | None} if types else None


def takes_numbers(full_key: str) -> bool | None:
    """Whether a key takes numbers only; None if the schema does not have it."""
    types = _types_of(full_key)
    return types <= {int, int | None, float, float | None} if types else None


def _types_of(full_key: str) -> set[Any]:
    prefix, _, name = full_key.rpartition(".")
    return {f.type for schema in schemas_at(prefix) for f in fields(schema) if f.name == name}


def not_numbers_of(group: str) -> frozenset[str]:
    """Keys of any schema of `group` that cannot change a point's numbers."""
    return frozenset[str]().union(*map(_not_numbers_of, schemas_at(group)))


@cache
def _not_numbers_of(schema: type) -> frozenset[str]:
    return frozenset(f.name for f in fields(schema) if not f.metadata["numbers"])


def schemas_at(prefix: str) -> list[type]:
    """The schemas of the keys under `prefix` ("" for the top level); a group may have several."""
    if not prefix:
        return [Command]
    if prefix in TYPED_GROUPS:
        return [TYPED_GROUPS[prefix]]
    return [schema for (group, _), schema in GROUP_SCHEMAS.items() if group.replace("/", ".") == prefix]


def without_later_keys(group: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """A group's content ("" for the top level) without the keys that were added after a release and have their default.

    Run ids omit these keys, so adding a key does not change the ids of existing runs. A group without a schema, such as
    a user's own network, is returned unchanged.
    """
    for names, later in map(_later_keys, schemas_at(group) if group else [Point]):
        if not group or content.keys() == names:
            return {name: value for name, value in content.items() if name not in later or later[name] != value}
    return dict(content)


@cache
def _later_keys(schema: type) -> tuple[set[str], dict[str, Any]]:
    """The names of a schema's keys, and the defaults of those that were added later."""
    defaults = {f.name: f.default for f in fields(schema)}
    return set(defaults), {name: default for name, default in defaults.items() if default is not MISSING}


def known_keys(prefix: str) -> list[str]:
    """Full names of the keys under `prefix`, a group's name or "" for the top level."""
    return [f"{prefix}.{f.name}" if prefix else f.name for schema in schemas_at(prefix) for f in fields(schema)]


def describe(full_key: str) -> str | None:
    """What the schema allows for `full_key`, in words; None if there is no such key."""
    prefix, _, name = full_key.rpartition(".")
    for schema in schemas_at(prefix):
        for f in fields(schema):
            if f.name == name:
                return f.metadata["allowed"]
    return None


def did_you_mean(name: str, known: list[str]) -> str:
    """The end of an error line: the names in `known` that are most similar to `name`, and all of `known`."""
    public = sorted({k for k in known if not k.rpartition(".")[2].startswith("_")})

    def last(full: str) -> str:
        return re.split(r"[./]", full)[-1]

    close = difflib.get_close_matches(last(name), {last(full) for full in public}, n=2)
    equal = [full for full in public if last(full) == last(name)]
    starts = [full for full in public if last(full).startswith(last(name))]
    near = " or ".join(equal or starts or [full for full in public if last(full) in close])
    return (f"did you mean {near}? " if near else "") + f"known: {', '.join(public) or 'none'}"


def is_schema(group: str, choice: str) -> bool:
    """Whether `choice`, which Hydra lists in `group`, is a schema and not a real choice."""
    return (group, choice) in GROUP_SCHEMAS


def choices_with(full_key: str) -> list[str]:
    """The choices whose schema has `full_key`, for groups in which each choice has its own keys."""
    group, _, name = full_key.rpartition(".")
    return [
        choice.removesuffix("_schema")
        for (of_group, choice), schema in GROUP_SCHEMAS.items()
        if of_group.replace("/", ".") == group and name in {f.name for f in fields(schema)}
    ]


def as_typed(value: Any) -> str:
    """Format a value as it is written in a command."""
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


def dotted(content: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            flat |= dotted(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def has_interpolation(config: Any) -> bool:
    """Whether a key or a value of the config, however deep, contains `${...}`."""
    if isinstance(config, Mapping):
        return any(map(has_interpolation, [*config, *config.values()]))
    if isinstance(config, list | tuple):
        return any(map(has_interpolation, config))
    return isinstance(config, str) and "${" in config
