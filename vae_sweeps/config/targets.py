"""Create the object that a config's `_target_` names."""

import importlib
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae_sweeps.config import trust
from vae_sweeps.config.keys import as_typed


def instantiate_target(config: Mapping[str, Any], **arguments: Any) -> Any:
    """Call the config's `_target_` with its other keys; `arguments` replace those of the same name.

    Our own public names are called here, with keys that their schema allows; Hydra calls anything else, if it is
    trusted. Raises ValueError if it is not, and if a key is wrong. A ValueError of the target is raised unchanged.
    """
    target = config.get("_target_")
    if not isinstance(target, str):
        raise ValueError(f"_target_={as_typed(target)}: must be the full dotted name of a function or class")
    if target in trust.OWN:
        return _call_own(target, {**_checked(target, config), **arguments})
    trust.check(config)
    try:
        return instantiate({**config, **arguments}, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise


def _call_own(target: str, arguments: dict[str, Any]) -> Any:
    package, _, name = target.rpartition(".")
    function = getattr(importlib.import_module(package), name)
    if arguments.pop("_partial_", False):  # the caller has more arguments
        return partial(function, **arguments)
    return function(**arguments)


def _checked(target: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config's keys but `_target_`, if they are those of the target's schema and their values are allowed."""
    trust.check(config)
    schema = trust.OWN[target]
    known = {f.name: f for f in fields(schema)}
    if wrong := sorted(map(str, config.keys() ^ known.keys())):
        raise ValueError(f"_target_={target}: missing or unknown keys {', '.join(wrong)}")
    typed = OmegaConf.structured(schema)
    for name, value in config.items():
        try:
            typed[name] = value
            is_allowed = known[name].metadata["check"](typed[name])
        except (OmegaConfBaseException, TypeError):
            is_allowed = False
        if not is_allowed:
            allowed = known[name].metadata["allowed"]
            raise ValueError(f"_target_={target}: {name}={as_typed(value)}: must be {allowed}")
    content = OmegaConf.to_container(typed)
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items() if name != "_target_"}
