"""Metrics of the user's own: functions of a model and its data set."""

from collections.abc import Mapping
from typing import Any

from vae_sweeps.config import source, trust
from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.config.targets import instantiate_target, located
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.model import Model
from vae_sweeps.runs.about import EXTRA


def settings(how: Evaluation) -> dict[str, dict[str, Any]]:
    """Each metric that `how` asks for, by its column, with its keys and the digest of its source."""
    return {
        f"{EXTRA}{name}": {"keys": dict(config), "source": source.digest(trust.targets_in(config))}
        for name, config in (how.extra or {}).items()
    }


def check(how: Evaluation) -> None:
    """Raise ValueError, in one line, if a metric cannot be imported."""
    for name, config in (how.extra or {}).items():
        if not isinstance(config, Mapping) or config.get("_target_") is None:
            raise ValueError(
                f"evaluation.extra.{name}: must name a function, as in +evaluation.extra.{name}._target_=my_metrics.f"
            )
        located(str(config["_target_"]))


def metrics(column: str, how: Evaluation, model: Model, dataset: Dataset) -> dict[str, float]:
    """What the function of this column returns: one number, or one for each name of a dict, as columns.

    The function is `f(model, dataset, **keys)`, where `model` is as from `vae_sweeps.load`.
    """
    config = how.extra[column.removeprefix(EXTRA)]
    found = instantiate_target({**config, "_partial_": True})(model, dataset)
    if isinstance(found, Mapping):
        return {f"{column}/{name}": float(value) for name, value in found.items()}
    return {column: float(found)}
