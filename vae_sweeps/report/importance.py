"""How much of a metric's variation each swept key explains, and how a search has gone on."""

from typing import Any

import numpy as np
import pandas as pd

from vae_sweeps.analysis.format import cell
from vae_sweeps.report import figures
from vae_sweeps.report.contents import Contents
from vae_sweeps.report.figures import Figure, View, literal
from vae_sweeps.runs import catalogue

_MOST_LEVELS = 6  # of a key with more values, neighbouring values are taken together
_FEWEST_POINTS = 6
_SELECTED = "val/elbo"


def importance(contents: Contents) -> Figure | None:
    """Make a view for each metric: a bar for each key; None if fewer than two keys vary, or there are few points."""
    frame = contents.table
    done = frame.loc[frame["status"] == "done"] if len(frame) else frame
    if len(contents.keys) < 2 or len(done) < _FEWEST_POINTS:
        return None
    views = []
    for metric in figures.metrics(done):
        found = {key: share for key in contents.keys if (share := explained(done, key, metric)) is not None}
        if len(found) > 1:
            order = sorted(found, key=lambda key: found[key])
            bars = {
                "type": "bar",
                "orientation": "h",
                "y": [literal(key) for key in order],
                "x": figures.rounded(found[key] for key in order),
                "marker": {"color": figures.COLOUR_OF_ONE},
                "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
            }
            axis = {
                "title": {"text": f"share of the variance of {literal(metric)}"},
                "range": [0, 1],
                "tickformat": ".0%",
            }
            views.append(View(metric, [bars], {"xaxis": axis, "yaxis": {"automargin": True}}))
    if not views:
        return None
    caption = (
        "The share of a metric's variance over all finished points that a key explains alone (epsilon squared: 0 on "
        "average for a key without an effect). The rest is due to keys that act together, and to chance."
    )
    return Figure("importance", "What matters", caption, views, 120 + 36 * len(contents.keys))


def explained(frame: pd.DataFrame, key: str, metric: str) -> float | None:
    """Epsilon squared of the key's groups, in [0,1]; None if it has one value, or none twice.

    It is (SSB - (k-1) MSW) / SST for k groups, with SSB and SST the sums of squares between groups and in total, and
    MSW the mean square within groups (Kelley, 1935).
    """
    frame = frame.loc[frame[metric].notna()]
    values, groups = figures.floats(frame, metric), _levels(frame, key)
    total = float(((values - values.mean()) ** 2).sum()) if len(values) else 0.0
    within = sum(float(((values[groups == g] - values[groups == g].mean()) ** 2).sum()) for g in np.unique(groups))
    k, n = len(np.unique(groups)), len(values)
    if k < 2 or k == n or total == 0:
        return None
    return max(0.0, (total - within - (k - 1) * within / (n - k)) / total)


def _levels(frame: pd.DataFrame, key: str) -> np.ndarray:
    """A number for each value's group: one for each value, or for neighbouring values of a key that has many."""
    column = frame[key]
    is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if is_number and len(set(column)) > _MOST_LEVELS:
        ranks = column.astype("float64").rank(method="min").to_numpy()
        return (ranks * _MOST_LEVELS / (len(ranks) + 1)).astype(int)
    return pd.factorize(pd.Series([cell(key, value) for value in column]))[0]


def history(contents: Contents) -> Figure | None:
    """The points of an adaptive search in their order, and the best so far; None for other sweeps."""
    if not any(sweep.is_search for sweep in contents.sweeps) or not len(contents.table):
        return None
    metric = catalogue.find(_SELECTED)
    assert metric is not None
    values = figures.floats(contents.table, _SELECTED)
    best = np.fmax.accumulate(values)
    numbers = list(range(1, len(values) + 1))
    is_stopped = (contents.table["status"] == "stopped").to_numpy()
    points: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "name": "points",
        "x": numbers,
        "y": figures.rounded(values),
        "marker": {
            "color": figures.COLOUR_OF_ONE,
            "symbol": ["x-thin-open" if stopped else "circle" for stopped in is_stopped],
        },
        "meta": contents.targets(contents.table["run"]),
        "hovertemplate": "point %{x}: %{y:.2f}<extra></extra>",
    }
    line: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "name": "best so far",
        "x": numbers,
        "y": figures.rounded(best),
        "line": {"color": figures.INK, "shape": "hv", "width": 1.6},
        "hoverinfo": "skip",
    }
    low, high = np.nanquantile(values, 0.1) if np.isfinite(values).any() else 0.0, np.nanmax(values)
    margin = 0.06 * (high - low) or 0.5
    layout = {
        "xaxis": {"title": {"text": "point, in the order of the search"}},
        "yaxis": {"title": {"text": literal(catalogue.with_unit(_SELECTED))}, "range": [low - margin, high + margin]},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    caption = "Each point's validation ELBO, and the best so far."
    if is_stopped.any():
        caption += " Crosses: points that halving stopped."
    return Figure("history", "How the search went on", caption, [View(_SELECTED, [line, points], layout)])
