"""Marks of a sweep's table on matplotlib axes: their rows and colours, and the labels and scales of the axes."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from vae_sweeps.analysis.seeds import SE, over
from vae_sweeps.analysis.style import COLOURS, INK, SCALE, style
from vae_sweeps.analysis.table import config_columns
from vae_sweeps.runs import catalogue

MARK = "_mark"  # the label of the artists that `draw` makes
DISTORTION = "distortion"  # -log p(x|z) of a split
_MARKERS = "osD^vPX*<>"
_LOG_KEYS = {"beta", "latent", "likelihood.sigma", "optim.lr"}  # config keys; for metrics, see the catalogue
_LEAST_GAP = 0.09  # between two labels, as a fraction of the axis
_WIDE = 30.0  # scores that span more than this factor are drawn on a log axis
_KEY_LABELS = {
    "beta": "β",
    "latent": "latent size L",
    "likelihood.sigma": "σ of the likelihood",
    "arch.hidden": "hidden layers",
    "optim.lr": "learning rate",
}


def label(column: str) -> str:
    """The axis label of a table's column, with its unit."""
    return _KEY_LABELS.get(column) or catalogue.label(column)


def score_column(table: pd.DataFrame, score: str, samples: str) -> str:
    """Find the column of a score of `samples`, such as fid or prdc/recall, for any features.

    Raises ValueError if it is not unique.
    """
    group, _, name = score.partition("/")
    wanted = "/".join(filter(None, (group, "*", name, samples)))
    metrics = ((name, catalogue.find(name)) for name in map(str, table.columns))
    columns = [name for name, metric in metrics if metric is not None and metric.name == wanted]
    if not columns:
        raise ValueError(
            f"{score} of {samples}: must be in the table; run `vae-sweeps evaluate SWEEP evaluation.{group}=true`"
        )
    if len(columns) > 1:
        raise ValueError(
            f"{score} of {samples}: must be one column, not {', '.join(columns)}; keep those of one kind of features"
        )
    return columns[0]


def marks(table: pd.DataFrame, keys: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """One row per mark: the finished points, averaged over seeds, that have numbers in `columns`.

    Raises ValueError if a column is missing, if no row has numbers, or if rows with equal `keys` differ in other
    config columns.
    """
    for name in (*keys, *columns):
        if name not in table:
            raise ValueError(f"{name}: must be a column of this table")
    frame = over(table) if "run" in table else table
    frame = frame.loc[frame["n"] > 0].dropna(subset=[*keys, *columns])
    if frame.empty:
        raise ValueError(f"{', '.join(columns)}: must have numbers; no finished point of this table has them")
    repeated = frame.loc[frame.duplicated(list(keys), keep=False)]
    if len(repeated):
        others = [
            name for name in config_columns(frame) if name not in keys and repeated[name].nunique(dropna=False) > 1
        ]
        at = ", ".join(f"{key}={text(repeated.iloc[0][key])}" for key in keys)
        raise ValueError(
            f"{', '.join(others)}: must have one value at {at}; "
            "choose one, or average over them (vae_sweeps.analysis.seeds.over)"
        )
    return frame


def groups(frame: pd.DataFrame, by: str | None) -> list[tuple[Any, pd.DataFrame]]:
    """The rows for each value of `by`, in order; if `by` is None, one group with all rows and the value None."""
    return [(None, frame)] if by is None else [(value, frame.loc[frame[by] == value]) for value in ordered(frame[by])]


def ordered(values: Iterable[Any]) -> list[Any]:
    """Sort the distinct values: numbers by size, then words."""
    return sorted(set(values), key=lambda value: (isinstance(value, str), value))


def text(value: Any) -> str:
    """Format a number or a word for people."""
    return value if isinstance(value, str) else f"{value + 0.0:g}".replace("-", "−")  # -0.0 + 0.0 is 0.0


def colours(values: Sequence[Any]) -> list[str]:
    """One colour per value: from dark to light for numbers, distinct colours for words."""
    if len(values) > 1 and not any(isinstance(value, str) for value in values):
        return [to_hex(colour) for colour in SCALE(np.linspace(0, 0.9, len(values)))]  # the last tenth is too light
    return [COLOURS[k % len(COLOURS)] for k in range(len(values))]


def marker(k: int) -> str:
    """The shape of the k-th group's marks."""
    return _MARKERS[k % len(_MARKERS)]


def draw(axes: Axes, rows: pd.DataFrame, x: str, y: str, **look: Any) -> None:
    """Draw the rows as marks, with bars of one standard error over seeds; they are not added to a legend."""
    bars: dict[str, Any] = {f"{a}err": rows[f"{name}{SE}"] for a, name in (("x", x), ("y", y)) if f"{name}{SE}" in rows}
    axes.errorbar(rows[x], rows[y], **bars, label=MARK, linewidth=1.3, elinewidth=1.2, capsize=2, **look)


def dress(axes: Axes, x: str, y: str, frame: pd.DataFrame) -> None:
    """Set labels with units, and scales that suit the columns."""
    style(axes, "")
    axes.set_xlabel(label(x), color=INK)
    axes.set_ylabel(label(y), color=INK)
    across, up = catalogue.find(x), catalogue.find(y)
    if x in _LOG_KEYS or (across is not None and across.is_log):
        values = ordered(frame[x])
        positive = [value for value in values if value > 0]
        if positive and len(positive) < len(values):
            # Linear from 0 to the smallest other value; this part is linscale / (1 - 1/10) = 1 decade wide.
            axes.set_xscale("symlog", linthresh=positive[0], linscale=0.9)
            axes.set_xlim(left=-0.3 * positive[0])
        elif positive:
            axes.set_xscale("log")
        ticks(axes, "x", values)
    scores = np.asarray(frame[y], float)
    if up is not None and up.group == "fid" and scores.max() > _WIDE * scores.min():
        axes.set_yscale("log")


def ticks(axes: Axes, way: Literal["x", "y"], values: Sequence[float]) -> None:
    """Set ticks at the ordered `values`; a tick whose label would touch the one before it is left out."""
    axis = {"x": axes.xaxis, "y": axes.yaxis}[way]
    places = axis.get_transform().transform(np.asarray(values, float))
    kept = [0]
    for k in range(1, len(values)):
        if places[k] - places[kept[-1]] >= _LEAST_GAP * (places[-1] - places[0]) > 0:
            kept.append(k)
    axis.set_major_locator(FixedLocator([values[k] for k in kept]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.set_minor_locator(NullLocator())
