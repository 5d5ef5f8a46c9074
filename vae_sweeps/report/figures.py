"""Figures as plotly JSON, which the page's script draws, in colours for light and dark backgrounds."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, to_hex

from vae_sweeps.analysis import table
from vae_sweeps.analysis.doubts import marked
from vae_sweeps.analysis.format import NOTHING, cell, cells, is_missing, means
from vae_sweeps.report.contents import Contents
from vae_sweeps.runs import catalogue

# From blue to orange at equal lightness: visible on white and on black, and to colour-blind readers.
_RAMP = LinearSegmentedColormap.from_list("ramp", ["#2f6fd6", "#8a63d2", "#d0529a", "#e8743b"])
COLOUR_OF_ONE = to_hex(_RAMP(0.0))
INK = "#888888"  # of guide lines, on both backgrounds
MAX_NAMED = 12  # colours in a legend, or ticks of a categorical axis
MOST_COLOURS = 100  # with more, the browser has too many traces
_REACH = 3.0  # times the interquartile range, beyond which a value is an outlier


@dataclass(frozen=True)
class View:
    """One state of a figure: plotly's `data` and `layout`; views of one `group` are listed together.

    `clip` holds, for each axis with outliers, the range of the other values, which the page shows until the reader asks
    for the whole range. Axes are "x", "y", "z" (the colours of a heat map), or the labels of parallel coordinates.
    """

    name: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    group: str = ""
    clip: dict[str, list[float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A figure with a title; if it has several views, the reader chooses one from a list."""

    key: str
    title: str
    caption: str
    views: list[View]
    height_px: int = 420
    min_width_px: int = 0  # on narrower screens the figure scrolls


def choices(key: str, values: Iterable[Any]) -> list[str]:
    """Format the distinct values of a config key: numbers by size, then words, then the missing value."""
    present = {v for v in values if not is_missing(v)}
    numbers = sorted(v for v in present if not isinstance(v, str))
    texts = [cell(key, v) for v in [*numbers, *sorted(v for v in present if isinstance(v, str))]]
    return list(dict.fromkeys([*texts, *([NOTHING] if any(map(is_missing, values)) else [])]))


def colours(names: Sequence[str]) -> dict[str, str]:
    """Assign a colour to each of `names`, by its position."""
    return {name: to_hex(_RAMP(i / max(len(names) - 1, 1))) for i, name in enumerate(names)}


def palette(contents: Contents) -> dict[str, str]:
    """The colour of each value of the page's colour key, the same in all figures."""
    key = colour_key(contents.group_keys)
    return colours(choices(key, contents.means[key]) if key else [""])


def palettes(contents: Contents) -> dict[str, list[tuple[str, str]]]:
    """The values of each varying key, in order, with their colours; without keys that have very many values."""
    values = {key: choices(key, contents.means[key]) for key in contents.group_keys}
    return {key: list(colours(names).items()) for key, names in values.items() if len(names) <= MOST_COLOURS}


def clip(axes: Mapping[str, np.ndarray]) -> dict[str, list[float | None]]:
    """The ranges without outliers of those axes that have some.

    Outliers are further than three interquartile ranges from the quartiles (Tukey, 1977, "far out").
    """
    found = dict[str, list[float | None]]()
    for axis, values in axes.items():
        finite = values[np.isfinite(values)]
        first, third = np.quantile(finite, (0.25, 0.75)) if len(finite) else (0.0, 0.0)
        inside = finite[(finite >= first - _REACH * (third - first)) & (finite <= third + _REACH * (third - first))]
        if third > first and len(inside) < len(finite):
            found[axis] = rounded([inside.min(), inside.max()])
    return found


def possible(column: str) -> dict[str, str]:
    """What keeps plotly's axis of this column from values that it cannot have."""
    metric = catalogue.find(column)
    return {"rangemode": "nonnegative"} if metric is not None and metric.is_nonnegative else {}


def colour_scale() -> list[list[Any]]:
    """The same colours for plotly's continuous scales."""
    return [[k / 4, to_hex(_RAMP(k / 4))] for k in range(5)]


def colour_key(keys: Sequence[str]) -> str | None:
    """The key that colours represent: beta if it varies, otherwise the first of the varying keys."""
    return "beta" if "beta" in keys else next(iter(keys), None)


def literal(text: str) -> str:
    """Escape `text` for plotly, which would interpret <b> as markup."""
    return html.escape(text, quote=False)


def written(row: Mapping[Any, Any], keys: Sequence[str]) -> str:
    """The row's values of these keys."""
    return " ".join(cell(key, row[key]) for key in keys)


def floats(frame: pd.DataFrame, column: str) -> np.ndarray:
    return frame[column].astype("float64").to_numpy()


def rounded(values: Iterable[float], digits: int = 6) -> list[float | None]:
    """Round to `digits` significant digits; None for values that are not finite."""
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in values]


def has(frame: pd.DataFrame, column: str) -> bool:
    """Whether the column exists and has a finite number."""
    return column in frame and bool(np.isfinite(floats(frame, column)).any())


def metrics(frame: pd.DataFrame) -> list[str]:
    """The metric columns that have numbers: first test/elbo, then the other test metrics, then the rest."""
    config = {*table.config_columns(frame), "n", "num_missing"}
    names = [name for name in map(str, frame.columns) if name not in config and not name.endswith(("/se", "/n"))]
    names = [name for name in names if pd.api.types.is_numeric_dtype(frame[name]) and has(frame, name)]
    return sorted(names, key=lambda name: (name != "test/elbo", not name.startswith("test/")))


def texts(frame: pd.DataFrame, column: str) -> list[str]:
    """Format a column, as `-93.10 ± 0.21` if it has standard errors, with a star after values in doubt."""
    errors = frame.get(f"{column}/se")
    found = cells(column, frame[column]) if errors is None else means(column, frame[column], errors)
    return marked(frame, column, found)


def averaged(caption: str, keys: Sequence[str]) -> str:
    """Add to `caption` how seeds are averaged, if there are several."""
    return f"{caption} Values are means over seeds, ± the standard error of the mean." if "seed" in keys else caption
