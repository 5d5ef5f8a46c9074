"""The schema of hydra/sweeper=grid, which chooses the points of a sweep."""

from dataclasses import dataclass
from typing import Any

from vae_sweeps.config.fields import at_least, free, key, or_null

SAMPLERS = ("random", "sobol")


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
