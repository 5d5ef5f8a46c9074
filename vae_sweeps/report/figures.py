"""Figures as plotly's JSON, which the page's script draws; colours that can be read on light and on dark paper."""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, to_hex

from vae_sweeps.analysis import table
from vae_sweeps.analysis.format import NOTHING, cell, cells, is_missing, means

# From blue to orange, equally light, so that none vanishes on white or on black, or to colour-blind readers.
_RAMP = LinearSegmentedColormap.from_list("ramp", ["#2f6fd6", "#8a63d2", "#d0529a", "#e8743b"])
COLOUR_OF_ONE = to_hex(_RAMP(0.0))
INK = "#888888"  # of lines that only guide the eye, on both papers
MAX_NAMED = 12  # colours, or ticks of an axis of words


@dataclass(frozen=True)
class View:
    """One state of a figure: plotly's `data` and `layout`; views of one `group` stand together in the list."""

    name: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    group: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure under `title`, with a list to choose from where it has several views."""

    key: str
    title: str
    caption: str
    views: list[View]
    height_px: int = 420
    min_width_px: int = 0  # narrower screens scroll


def choices(key: str, values: Iterable[Any]) -> list[str]:
    """The distinct values of a config's key as they are written: numbers by size, then words, then nothing."""
    present = {v for v in values if not is_missing(v)}
    numbers = sorted(v for v in present if not isinstance(v, str))
    texts = [cell(key, v) for v in [*numbers, *sorted(v for v in present if isinstance(v, str))]]
    return list(dict.fromkeys([*texts, *([NOTHING] if any(map(is_missing, values)) else [])]))


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each of `names`, by its rank."""
    return {name: to_hex(_RAMP(i / max(len(names) - 1, 1))) for i, name in enumerate(names)}


def colour_scale() -> list[list[Any]]:
    """The same colours for plotly's continuous scales."""
    return [[k / 4, to_hex(_RAMP(k / 4))] for k in range(5)]


def colour_key(keys: Sequence[str]) -> str | None:
    """What colours stand for: beta, or the first of the varying keys."""
    return "beta" if "beta" in keys else next(iter(keys), None)


def literal(text: str) -> str:
    """`text` for plotly, which would take <b> for markup."""
    return html.escape(text, quote=False)


def floats(frame: pd.DataFrame, column: str) -> np.ndarray:
    return frame[column].astype("float64").to_numpy()


def rounded(values: Iterable[float], digits: int = 6) -> list[float | None]:
    """Plain numbers of so many significant digits; None for what is not finite."""
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in values]


def has(frame: pd.DataFrame, column: str) -> bool:
    """Whether there is any number in that column."""
    return column in frame and bool(np.isfinite(floats(frame, column)).any())


def metrics(frame: pd.DataFrame) -> list[str]:
    """The columns of numbers that came out, those of the test images first, led by the ELBO."""
    config = {*table.config_columns(frame), "n", "num_missing"}
    names = [name for name in map(str, frame.columns) if name not in config and not name.endswith(("/se", "/n"))]
    names = [name for name in names if pd.api.types.is_numeric_dtype(frame[name]) and has(frame, name)]
    return sorted(names, key=lambda name: (name != "test/elbo", not name.startswith("test/")))


def texts(frame: pd.DataFrame, column: str) -> list[str]:
    """The column as people read it; `-93.10 ± 0.21` where it has standard errors."""
    if f"{column}/se" in frame:
        return means(column, frame[column], frame[f"{column}/se"])
    return cells(column, frame[column])


def averaged(caption: str, keys: Sequence[str]) -> str:
    """`caption`, and what is done with seeds where there are several."""
    return f"{caption} Seeds are averaged, ± the standard error of the mean." if "seed" in keys else caption
