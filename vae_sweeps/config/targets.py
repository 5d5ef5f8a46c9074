"""Create the object that a config's `_target_` names."""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae_sweeps.config import source, trust
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
    located(target)
    try:
        return instantiate({**config, **arguments}, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if cause is None:
            raise
        if type(cause) is ValueError:
            raise cause from None
        raise ValueError(f"_target_={target}: raised {type(cause).__name__}: {_joined(cause)}") from error


def located(target: str) -> Any:
    """The function or class of this name, whose module is imported.

    Raises ValueError, in one line, if it may not be called, or cannot be imported or called.
    """
    trust.check({"_target_": target})
    source.make_importable()
    found = _imported(target)
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ValueError(f"_target_={target}: is an abstract class: {missing} must be defined in a subclass")
    if not callable(found):
        raise ValueError(f"_target_={target}: is {type(found).__name__}; must be a function or class")
    return found


def _imported(target: str) -> Any:
    """The object of this name, after importing its module. Hydra's function logs several lines for a mistake."""
    *packages, name = target.split(".")
    for end in range(len(packages), 0, -1):
        module = ".".join(packages[:end])
        try:
            found = importlib.import_module(module)
        except Exception as error:  # a module may raise anything
            if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
                continue  # it may be a class
            reason = f"{type(error).__name__}: {_joined(error)}"
            raise ValueError(f"_target_={target}: cannot be imported: {module} raised {reason}") from error
        for part in (*packages[end:], name):
            if not hasattr(found, part):
                raise ValueError(f"_target_={target}: cannot be imported: there is no {part} in {module}")
            found = getattr(found, part)
        return found
    raise ValueError(f"_target_={target}: cannot be imported; must be the full dotted name of a function or class")


def _joined(error: BaseException) -> str:
    return " ".join(str(error).split())


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
