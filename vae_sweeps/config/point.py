"""Check composed configs and convert them to points and launch options; convert points to and from dicts."""

from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING, DictConfig, OmegaConf

from vae_sweeps.config.keys import TYPED_GROUPS, as_typed, describe, did_you_mean, known_keys, option_names
from vae_sweeps.config.launch_options import LaunchOptions, options_from
from vae_sweeps.config.own_names import OWN
from vae_sweeps.config.schema import Point
from vae_sweeps.config.secrets import hide_in_override


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
    return from_checked(checked_content(cfg))


def checked_content(cfg: DictConfig) -> dict[str, Any]:
    """Check every key and value of a composed config on its own, and convert it to dicts, lists and scalars.

    Raises ValueError with the key, its value and what is allowed.
    """
    _check_names(cfg)
    check_values(cfg)
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))


def from_checked(content: Mapping[str, Any]) -> tuple[Point, LaunchOptions]:
    """Check values that depend on each other, and return the point and the launch options of `checked_content`.

    Raises ValueError with the key, its value and what is allowed. They share the lists of `content`.
    """
    if content["steps"] is None and content["epochs"] is None:
        raise ValueError("epochs=null: must be a whole number >= 1 if steps is null; set one of the two")
    _check_together(content)
    names, data = option_names(), dict(content["data"])
    for name in ("root", "cache", "path"):
        if (folder := data.get(name)) is not None and not _is_on_hub(name, folder, data):
            data[name] = str(Path(folder).expanduser().resolve())  # notebooks run in other folders
    point = {name: value for name, value in content.items() if name not in names} | {"data": data}
    point |= {name: _without_unset(content[name]) for name in ("objective", "optim")}
    if point["steps"] is not None:
        point["epochs"] = None  # steps takes precedence, so that equal points have equal ids
    return from_container(point), options_from({name: content[name] for name in names})


def _is_on_hub(name: str, path: str, data: Mapping[str, Any]) -> bool:
    """Whether the key's value is not a path but the name of a data set on the hub."""
    is_of_hub = name == "path" and data.get("_target_") == "vae_sweeps.data.huggingface"
    return is_of_hub and not Path(path).expanduser().exists()


def _without_unset(group: Mapping[str, Any]) -> dict[str, Any]:
    """The group with null in place of a `custom` without a `_target_`."""
    custom = group["custom"]
    return {**group, "custom": None if custom is None or custom.get("_target_") is None else custom}


def check_values(node: DictConfig, prefix: str = "") -> None:
    """Raise ValueError with the key, its value and what is allowed, if a value of `node` is not allowed."""
    for full_key, spec, value in _checked_fields(node, prefix):
        if not spec.metadata["check"](value):
            shown = hide_in_override(f"{full_key}={as_typed(value)}")
            raise ValueError(f"{shown}: must be {spec.metadata['allowed']}")


def is_allowed(node: DictConfig, name: str) -> bool:
    """Whether `check_values` allows the value of `name` in `node`, which is not a group."""
    schema = OmegaConf.get_type(node)
    known = {f.name: f for f in fields(schema)} if is_dataclass(schema) else {}
    return name not in known or bool(known[name].metadata["check"](node[name]))


def _check_names(cfg: DictConfig) -> None:
    known = known_keys("")
    for name in map(str, cfg):
        if name not in known:
            raise ValueError(f"{name}={as_typed(cfg[name])}: no such key; {did_you_mean(name, known)}")
    for name in known:
        if name not in cfg or OmegaConf.is_missing(cfg, name):
            raise ValueError(f"~{name}: must not be deleted; every command needs {name}, {describe(name)}")
    for name, node in cfg.items():
        if isinstance(node, DictConfig):
            check_names(node, str(name))


def check_names(node: DictConfig, group: str) -> None:
    """Raise ValueError if `node`, the value of `group`, has keys that its schema does not have, or lacks some."""
    schema = OmegaConf.get_type(node)
    is_own = "_target_" in node and str(node.get("_target_")) not in OWN  # it has its own keys
    names = [f.name for f in fields(schema)] if is_dataclass(schema) and not is_own else list(node)
    for name in map(str, node):
        if name not in names:
            shown = hide_in_override(f"{group}.{name}={as_typed(node[name])}")
            known = [f"{group}.{other}" for other in names]
            raise ValueError(f"{shown}: no such key; {did_you_mean(f'{group}.{name}', known)}")
        if not OmegaConf.is_missing(node, name) and isinstance(inner := node[name], DictConfig):
            check_names(inner, f"{group}.{name}")
    present = set(map(str, node))  # `in` is false for values that are missing, which is another mistake
    for name in names:
        if name not in present:
            raise ValueError(f"~{group}.{name}: must not be deleted; set it to {describe(f'{group}.{name}')}")


def _check_together(content: Mapping[str, Any]) -> None:
    target = str(content["likelihood"].get("_target_"))
    pixel_range = content["data"].get("pixel_range", [0, 1])
    if target.endswith("Bernoulli") and list(pixel_range) != [0, 1]:
        raise ValueError(
            f"data.pixel_range={as_typed(pixel_range)}: must be [0,1] with likelihood={_choice(target)}; "
            "or choose likelihood=gaussian"
        )
    output = content["arch"].get("output", "identity")
    if target.endswith("Bernoulli") and output != "identity":
        raise ValueError(
            f"arch.output={output}: must be identity with likelihood={_choice(target)}, which applies a sigmoid; "
            "or choose likelihood=gaussian"
        )
    if not isinstance(chosen := content["evaluation"]["features"], dict):
        raise ValueError(f"evaluation.features={chosen}: must be chosen as a group: evaluation/features={chosen}")
    if content["objective"]["error"] == "squared" and not isinstance(content["likelihood"].get("sigma"), float | int):
        raise ValueError(
            "objective.error=squared: must be nll unless likelihood.sigma is a number; "
            "add likelihood=gaussian, or use objective=elbo instead of mse"
        )
    _check_objective(content["objective"], content["beta"])
    _check_optim(content["optim"])
    _check_shares(content["devices"], content["batch_size"], content["towers"], content["device"])
    _check_folder_names(content)


def _choice(target: str) -> str:
    return "continuous_bernoulli" if target.endswith("ContinuousBernoulli") else "bernoulli"


def _check_objective(objective: Mapping[str, Any], beta: float) -> None:
    schedule, gamma = objective["schedule"], objective["capacity_gamma"]
    if objective["warmup_epochs"] and schedule != "linear":
        raise ValueError(
            f"objective.warmup_epochs={objective['warmup_epochs']:g}: must be 0 with objective.schedule={schedule}; "
            "only schedule=linear has a warm-up"
        )
    if gamma is not None:
        others = {"beta": beta, "objective.free_bits": objective["free_bits"]}
        for name, neutral in (("beta", 1), ("objective.free_bits", 0)):
            if others[name] != neutral:
                raise ValueError(
                    f"{name}={others[name]:g}: must be {neutral} with objective.capacity_gamma, which takes its place"
                )
        if schedule == "cyclical" or objective["warmup_epochs"]:
            raise ValueError(
                f"objective.schedule={schedule}: must be constant, or linear without a warm-up, with "
                "objective.capacity_gamma: it has no beta that could change"
            )
    if _without_unset(objective)["custom"] is not None:
        for name, neutral in _OF_OUR_LOSS.items():
            if objective[name] != neutral:
                value = as_typed(objective[name])
                raise ValueError(
                    f"objective.{name}={value}: must be {as_typed(neutral)} with objective.custom, which replaces it"
                )


# What an objective of the user's own does not use.
_OF_OUR_LOSS = {"error": "nll", "pixels": "sum", "latents": "sum", "free_bits": 0, "capacity_gamma": None}


def _check_optim(optim: Mapping[str, Any]) -> None:
    algorithm, custom = optim["algorithm"], _without_unset(optim)["custom"]
    if (algorithm == "custom") != (custom is not None):
        flaw = "null" if custom is None else custom["_target_"]
        raise ValueError(
            f"optim.custom._target_={flaw}: must be the full dotted name of an optimiser with optim=custom, else null"
        )
    if optim["momentum"] and algorithm not in ("sgd", "rmsprop"):
        raise ValueError(f"optim.momentum={optim['momentum']:g}: must be 0 with optim={algorithm}; use sgd or rmsprop")
    if optim["nesterov"] and (algorithm != "sgd" or not optim["momentum"]):
        raise ValueError("optim.nesterov=true: must be false unless optim=sgd with optim.momentum above 0")
    if optim["lr_decay_per_epoch"] != 1 and optim["lr_schedule"] != "exponential":
        raise ValueError(
            f"optim.lr_decay_per_epoch={optim['lr_decay_per_epoch']:g}: must be 1 with "
            f"optim.lr_schedule={optim['lr_schedule']}; or use optim.lr_schedule=exponential"
        )
    if algorithm == "custom" and optim["weight_decay"]:
        raise ValueError(
            f"optim.weight_decay={optim['weight_decay']:g}: must be 0 with optim=custom; "
            "give the optimiser its own key: +optim.custom.weight_decay"
        )


def _check_folder_names(content: Mapping[str, Any]) -> None:
    for name in ("output_dir", "sweep"):
        value = content[name]
        if value is not None and not value.isprintable():
            raise ValueError(f"{name}={value!r}: must not contain line breaks or other control characters")
        if value is not None and "%" in value:
            raise ValueError(f"{name}={value}: must not contain %, which SLURM replaces in paths")
        if value is not None and value.startswith("-"):
            raise ValueError(f"{name}={value}: must not begin with -, like an option of a command")
    sweep = content["sweep"]
    if sweep is not None and (not sweep.strip(". ") or "/" in sweep or len(sweep) > 100):
        raise ValueError(f"sweep={sweep}: must be a folder name of at most 100 characters, without /")


def _check_shares(devices: int, batch_size: int, towers: int, device: str) -> None:
    if devices > batch_size:
        raise ValueError(
            f"devices={devices}: must be at most batch_size={batch_size}, since each takes a share of it; "
            "use fewer devices or a larger batch"
        )
    if towers > 1 and towers % devices:
        raise ValueError(f"towers={towers}: must be 1, or a multiple of devices={devices}")
    if devices > 1 and ":" in device:
        raise ValueError(f"device={device}: must be auto, cpu or cuda with devices={devices}")


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
    return {name: _plain(value) for name, value in vars(point).items()}


def _plain(value: Any) -> Any:
    """What `dataclasses.asdict` makes of a value, which takes three times as long."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return {name: _plain(inner) for name, inner in vars(value).items()} if is_dataclass(value) else value
