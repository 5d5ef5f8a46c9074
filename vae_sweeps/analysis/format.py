"""How the values of a results table are written for people."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

NOTHING = "–"
_DECIMALS = {"test/bits_per_dim": 4, "time_s": 1, "images_per_s": 0, "sigma": 4}
_DECIMALS |= {"probe/accuracy": 4, "probe/pixels": 4, "test/ssim": 4, "neighbour/ratio": 3}
_COUNTS = ("num_params", "test/active_units", "step")
_MOST_DECIMALS = 7


def is_missing(value: Any) -> bool:
    """Whether the table has no value there."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def cell(name: str, value: Any, decimals: int | None = None) -> str:
    """`value` of column `name`: configs as one would type them, metrics with the digits that mean something."""
    if is_missing(value):
        return NOTHING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if (isinstance(value, float) and name in ("beta", "beta_nats", "latent")) or "." in name:
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, float):
        if decimals is None:
            decimals = 0 if value.is_integer() and name in _COUNTS else _DECIMALS.get(name, 2)
        return f"{value:,.{decimals}f}"
    return str(value)


def decimals_of(name: str, values: Iterable[float]) -> int:
    """Decimals for a column of metrics: two, more where all its numbers are small (four digits of the largest)."""
    finite = [abs(v) for v in values if math.isfinite(v)]
    if name in _COUNTS and all(v.is_integer() for v in finite):
        return 0
    largest = max(finite, default=0.0)
    if name in _DECIMALS or not 0 < largest < 1:
        return _DECIMALS.get(name, 2)
    return min(_MOST_DECIMALS, 3 - math.floor(math.log10(largest)))


def cells(name: str, values: Iterable[Any]) -> list[str]:
    """A column's cells; its metrics have the same number of decimals."""
    values = list(values)
    decimals = decimals_of(name, [v for v in values if isinstance(v, float)])
    return [cell(name, value, decimals) for value in values]


def means(name: str, values: Iterable[float], errors: Iterable[float]) -> list[str]:
    """A column of means and their standard errors, `-101.3 ± 1.2`: two digits of the errors' median decide how many
    decimals mean something."""
    values, errors = list(values), list(errors)
    known = sorted(se for se in errors if se > 0)
    if not known and "/" not in name:
        return cells(name, values)  # what the config decides, as the number of parameters
    middle = known[len(known) // 2] if known else 0.0
    decimals = min(_MOST_DECIMALS, max(0, 1 - math.floor(math.log10(middle)))) if middle else decimals_of(name, values)
    texts = [NOTHING if is_missing(v) else f"{v:,.{decimals}f}" for v in values]
    behind = ["" if is_missing(se) else f"{se:,.{decimals}f}" for se in errors]
    if not any(behind):
        return texts
    width = max(map(len, behind))
    behind = [f" ± {se:>{width}}" if se else " " * (width + 3) for se in behind]
    return [text + more for text, more in zip(texts, behind, strict=True)]
