"""Format the values of a results table for people."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vae_sweeps.runs import catalogue

NOTHING = "–"
_DECIMALS, _MOST_DECIMALS = 2, 7


def is_missing(value: Any) -> bool:
    """Whether the table has no value there."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def cell(name: str, value: Any, decimals: int | None = None) -> str:
    """Format `value` of column `name`: config values as on a command line, metrics with their significant digits."""
    if is_missing(value):
        return NOTHING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    if _is_setting(name):
        return f"{value:g}"
    if decimals is None:
        known = _known_decimals(name, [value])
        decimals = _DECIMALS if known is None else known
    return f"{value:,.{decimals}f}"


def decimals_of(name: str, values: Iterable[float]) -> int:
    """Decimals for a column of metrics: two, or if all values are below 1, four significant digits of the largest."""
    finite = [abs(v) for v in values if math.isfinite(v)]
    known, largest = _known_decimals(name, finite), max(finite, default=0.0)
    if known is not None or not 0 < largest < 1:
        return _DECIMALS if known is None else known
    return min(_MOST_DECIMALS, 3 - math.floor(math.log10(largest)))


def _known_decimals(name: str, values: Sequence[float]) -> int | None:
    """The decimals that the catalogue gives to this column; None if they depend on its values alone."""
    metric = catalogue.find(name)
    if metric is None:
        return None
    return 0 if metric.format == "count" and all(v.is_integer() for v in values) else metric.decimals


def _is_setting(name: str) -> bool:
    metric = catalogue.find(name)
    return "." in name or name in ("beta", "latent") or (metric is not None and metric.format == "setting")


def cells(name: str, values: Iterable[Any]) -> list[str]:
    """Format a column's cells; metrics get the same number of decimals in all rows."""
    values = list(values)
    decimals = decimals_of(name, [v for v in values if isinstance(v, float)])
    if not _is_setting(name) and all(type(v) is float for v in values):  # what `cell` does, in a fifth of the time
        return [NOTHING if math.isnan(v) else f"{v:,.{decimals}f}" for v in values]
    return [cell(name, value, decimals) for value in values]


def means(name: str, values: Iterable[float], errors: Iterable[float]) -> list[str]:
    """Format a column of means and their standard errors, as `-101.3 ± 1.2`.

    The number of decimals is such that the median error has two significant digits.
    """
    values, errors = list(values), list(errors)
    known = sorted(se for se in errors if se > 0)
    if not known and "/" not in name:
        return cells(name, values)  # determined by the config, such as the number of parameters
    middle = known[len(known) // 2] if known else 0.0
    decimals = min(_MOST_DECIMALS, max(0, 1 - math.floor(math.log10(middle)))) if middle else decimals_of(name, values)
    texts = [NOTHING if is_missing(v) else f"{v:,.{decimals}f}" for v in values]
    suffixes = ["" if is_missing(se) else f"{se:,.{decimals}f}" for se in errors]
    if not any(suffixes):
        return texts
    width = max(map(len, suffixes))
    suffixes = [f" ± {se:>{width}}" if se else " " * (width + 3) for se in suffixes]
    return [text + suffix for text, suffix in zip(texts, suffixes, strict=True)]
