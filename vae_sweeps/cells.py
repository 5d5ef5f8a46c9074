"""How a value of the table is written for people."""

import math
from typing import Any

import numpy as np
import pandas as pd

NOTHING = "–"
_DIGITS = {"test/bits_per_dim": 4, "time_s": 1, "images_per_s": 0, "sigma": 4}
_DIGITS |= {"probe/accuracy": 4, "probe/pixels": 4, "test/ssim": 4, "neighbour/ratio": 3}


def is_missing(value: Any) -> bool:
    """Whether the table has no value there."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def cell(name: str, value: Any) -> str:
    """`value` of column `name`: configs as one would type them, metrics with the digits that mean something."""
    if is_missing(value):
        return NOTHING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if (isinstance(value, float) and name in ("beta", "beta_nats", "latent")) or "." in name:
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, float):
        is_count = value.is_integer() and name in ("num_params", "test/active_units", "step")
        return f"{value:.0f}" if is_count else f"{value:,.{_DIGITS.get(name, 2)}f}"
    return str(value)
