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


def read_curves(run: RunFolder, most: int) -> dict[str, Curve]:
    """The curves of the run's terms of the ELBO, with at most about `most` values each; none without a value."""
    rows = [(row.get("step"), *map(row.get, METRICS)) for row in some_rows(run, most)]
    steps, *columns = zip(*rows, strict=True) if rows else ((),)
    pairs = ((metric, _curve(steps, column)) for metric, column in zip(METRICS, columns, strict=False))
    return {metric: curve for metric, curve in pairs if len(curve.steps)}


def _curve(steps: Iterable[int], column: Iterable[float | None]) -> Curve:
    values = np.array(column, dtype="float64")  # None becomes NaN
    is_there = ~np.isnan(values)
    return Curve(np.array(steps)[is_there], values[is_there])
