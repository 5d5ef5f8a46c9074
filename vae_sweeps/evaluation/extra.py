"""Metrics of the user's own: functions of the model and the data set, named in `evaluation.extra`."""

import re
from collections.abc import Mapping
from typing import Any

from vae_sweeps.config import trust
from vae_sweeps.config.keys import as_typed
from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.config.targets import instantiate_target, located
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.model import Model
from vae_sweeps.evaluation.settings import EXTRA
from vae_sweeps.runs.catalogue import DIRECTIONS
from vae_sweeps.system.rng import seeded

_NOT_ARGUMENTS = ("_target_", "unit", "direction")


def check(how: Evaluation) -> None:
    """Raise ValueError if a metric of `how` is not described as it must be, or its function cannot be imported."""
    extra = how.extra or {}
    if not isinstance(extra, Mapping):
        raise ValueError(
            f"evaluation.extra={as_typed(extra)}: must be metrics by name, as in extra.my_metric._target_=f"
        )
    for name, config in extra.items():
        key = f"evaluation.extra.{name}"
        if not re.fullmatch(r"\w+", str(name)):
            raise ValueError(f"{key}: the name of a metric must consist of letters, digits and _")
        if not isinstance(config, Mapping) or not isinstance(config.get("_target_"), str):
            raise ValueError(f"{key}={as_typed(config)}: must have {key}._target_, the full dotted name of a function")
        if config.get("direction") not in (*DIRECTIONS, None):
            direction = as_typed(config["direction"])
            raise ValueError(f"{key}.direction={direction}: must be one of {', '.join(DIRECTIONS)}, or null")
        if not isinstance(config.get("unit") or "", str):
            raise ValueError(f"{key}.unit={as_typed(config['unit'])}: must be a text, or null")
        trust.check(config)
        located(config["_target_"])


def measure(model: Model, dataset: Dataset, how: Evaluation, part: str) -> dict[str, float]:
    """The columns of the metric `part`, `extra/<name>`, or `extra/<name>/<key>` if the function returns a dict.

    The function gets the model and the data set on the evaluation's device, and its keys. Random numbers that it draws
    from global generators depend on `evaluation.seed` and the metric's name. Raises ValueError if it returns anything
    but numbers.
    """
    config = how.extra[part.removeprefix(EXTRA)]
    keys = {name: _made(value) for name, value in config.items() if name not in _NOT_ARGUMENTS}
    trust.check(config)
    function = located(config["_target_"])
    with seeded("extra", how.seed, part, device=model.device):
        found = function(model, dataset, **keys)
    if not isinstance(found, Mapping):
        return {part: _number(part, found)}
    if bad := [name for name in found if not isinstance(name, str) or not name or "/" in name]:
        raise ValueError(f"{part}: the names in its dict must be texts without /; got {bad[0]!r}")
    return {f"{part}/{name}": _number(f"{part}/{name}", value) for name, value in found.items()}


def _made(value: Any) -> Any:
    return instantiate_target(value) if isinstance(value, Mapping) and "_target_" in value else value


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: must be a number; its function returned {type(value).__name__}") from error
