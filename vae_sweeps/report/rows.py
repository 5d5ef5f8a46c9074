"""The curves of a run's metrics, from its rows."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from vae_sweeps.runs import catalogue
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.some_rows import some_rows

METRICS = [f"{split}/{name}" for name in catalogue.TERMS for split in ("val", "train")]


class Curve(NamedTuple):
    """The values of a metric, without missing ones, at steps [n] in increasing order."""

    steps: np.ndarray
    values: np.ndarray


class Clock(NamedTuple):
    """The epochs and the hours of training, in the run's share of its pack, at steps [n] in increasing order."""

    steps: np.ndarray
    epochs: np.ndarray
    hours: np.ndarray


class Rows(NamedTuple):
    """The curves of a run's terms of the ELBO, of those that have values, and its clock."""

    curves: dict[str, Curve]
    clock: Clock


NO_ROWS = Rows({}, Clock(np.array([]), np.array([]), np.array([])))


def read_rows(run: RunFolder, most: int) -> Rows:
    """Read the curves, with at most about `most` values each."""
    names = ("step", "epoch", "time_s", *METRICS)
    rows = [[row.get(name) for name in names] for row in some_rows(run, most)]
    steps, epochs, seconds, *columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    pairs = ((metric, _curve(steps, column)) for metric, column in zip(METRICS, columns, strict=True))
    curves = {metric: curve for metric, curve in pairs if len(curve.steps)}
    return Rows(curves, Clock(np.array(steps), _floats(epochs), _floats(seconds) / 3600))


def _curve(steps: Iterable[int], column: Iterable[float | None]) -> Curve:
    values = _floats(column)
    is_there = ~np.isnan(values)
    return Curve(np.array(steps)[is_there], values[is_there])


def _floats(column: Iterable[float | None]) -> np.ndarray:
    return np.array(column, dtype="float64")  # None becomes NaN
