"""The schemas of hydra/sweeper=grid and adaptive, which choose the points of a sweep."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vae_sweeps.config.fields import at_least, free, key, one_of, or_null

SAMPLERS = ("random", "sobol")
ADAPTIVE_SAMPLERS = ("tpe", "random", "cmaes", "qmc", "gp")
_DIRECTIONS = ("maximize", "minimize")


def _is_names(value: Any) -> bool:
    names = [value] if isinstance(value, str) else value
    return isinstance(names, Sequence) and len(names) > 0 and all(isinstance(name, str) for name in names)


def _is_direction(value: Any) -> bool:
    return value is None or set([value] if isinstance(value, str) else value) <= set(_DIRECTIONS)


@dataclass
class HalvingSettings:
    """Which points stop early. Off while `min_epochs` is null."""

    min_epochs: int | None = or_null(1)
    reduction_factor: int = at_least(2, "a whole number")
    metric: str = free("an ELBO term or the loss on val or train, such as val/elbo")
    brackets: int = at_least(1, "a whole number")


@dataclass
class GridSweeper:
    """The points of a sweep: grids, or samples of a space. The syntax is described in docs/sweeping.md."""

    _target_: str = free("a sweeper")
    params: dict[str, Any] = free("values of keys as in a command, such as {beta: '0,1'}")
    also: list[list[str]] = free("more grids, each a list such as [beta=4, latent=2,10]")
    points: str | None = free("a CSV file with a column for each key, or null")
    where: str | None = free("a condition such as latent>=10 or beta<1, or null")
    num_points: int | None = or_null(2)
    sampler: str | None = key("random, sobol or null", lambda v: v is None or v in SAMPLERS)
    num_samples: int | None = or_null(1)
    seed: int = at_least(0, "a whole number")
    halving: HalvingSettings = free("a group of keys")


@dataclass
class AdaptiveSweeper:
    """A search with Optuna. The keys that other sweepers have too are spelled as in hydra-optuna-sweeper."""

    _target_: str = free("a sweeper")
    n_trials: int = at_least(1, "a whole number")
    n_jobs: int | None = or_null(1)
    sampler: str = one_of(*ADAPTIVE_SAMPLERS)
    seed: int = at_least(0, "a whole number")
    objective: Any = key("a column of the table, or a list of columns", _is_names)
    direction: Any = key("maximize or minimize, a list of them, or null", _is_direction)
    repeats: int = at_least(1, "a whole number")
    max_failure_rate: float = key("a number in [0, 1]", lambda v: 0 <= v <= 1)
    study_name: str | None = free("a name, or null")
    storage: str | None = free("an address of Optuna, a file, or null")
    params: dict[str, Any] = free("values of keys as in a command, such as {beta: 'interval(0,1)'}")
    halving: HalvingSettings = free("a group of keys")
