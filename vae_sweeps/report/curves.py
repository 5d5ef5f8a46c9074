"""Learning curves of all points, those of several seeds as mean and band."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vae_sweeps.analysis.format import cell
from vae_sweeps.analysis.style import START
from vae_sweeps.report import figures
from vae_sweeps.report.contents import Contents, label
from vae_sweeps.report.figures import Figure, View, literal
from vae_sweeps.report.rows import METRICS, Curve
from vae_sweeps.runs import catalogue
from vae_sweeps.runs.run_folder import STOPPED

_NUM_PLACES, _FEWEST, _MOST = 12_000, 20, 200  # for all curves of one metric; for one curve
FEW = 2  # with so few points, markers are needed
_NUM_LINES = 20  # of the best points, if there are many
_NUM_CLOCK = 20  # steps at which the page knows the epoch and the hours
_DASHES = {"solid": "solid", "dash": "dashed", "dot": "dotted", "dashdot": "dash-dotted"}
# Of many points: the shares of their curves that lie below the edges of the bands, and how opaque the bands are.
_BANDS = {(0.1, 0.9): "26", (0.25, 0.75): "40"}


class Mean(NamedTuple):
    """A mean over runs and its standard error (NaN for one run), at steps [n] in increasing order."""

    steps: np.ndarray
    mean: np.ndarray
    se: np.ndarray


def learning_curves(contents: Contents) -> Figure | None:
    """Make a view for each metric of each split; None if no run has rows yet."""
    groups = {
        first: curves
        for first, members in contents.groups.items()
        if (curves := [contents.runs[run].rows.curves for run in members if contents.runs[run].rows.curves])
    }
    key = figures.colour_key(contents.group_keys)
    colours = figures.palette(contents)
    drawn = [run for run in contents.best[:_NUM_LINES] if run in groups] if contents.is_of_many else list(groups)
    shown = contents.means.loc[contents.means["run"].isin(drawn)] if len(contents.means) else contents.means
    configs = {row["run"]: row for row in shown.to_dict("records")}
    dashed, dashes = _dashes(contents)
    names_each = len(drawn) <= figures.MAX_NAMED
    num_places = room(len(drawn))
    stopped = {run for run in groups if all(contents.runs[m].state.state == STOPPED for m in contents.groups[run])}
    views = []
    for metric in METRICS:
        means = {run: mean_and_se([c[metric] for c in curves if metric in c]) for run, curves in groups.items()}
        means = {run: mean for run, mean in means.items() if len(mean.steps)}
        data, limits = [], []
        if contents.is_of_many and any(run in means for run in contents.spread):
            data, limits = _spread([means[run] for run in contents.spread if run in means])
        for run in (run for run in drawn if run in means):
            row = configs[run]
            choice = cell(key, row[key]) if key else ""
            name = label(row, contents.group_keys or ["beta", "latent"])
            several = f" ({len(groups[run])} seeds)" if len(groups[run]) > 1 else ""
            limits.append(_settled(means[run]))
            curve = _thinned(means[run], num_places)
            look = {"color": colours[choice], "width": 1.6}
            if dashed:
                look["dash"] = dashes[cell(dashed, row[dashed])]
            traces = _line_and_band(curve, literal(name + several), run if names_each else choice, look, run)
            if names_each and len(drawn) > 1:
                traces[-1] |= {"showlegend": True, "name": literal(figures.written(row, contents.group_keys))}
            data += traces
        if data:
            if key and not names_each:
                _name_colours(data, key)
            ends = {run: means[run] for run in drawn if run in means and run in stopped}
            settled = np.concatenate(limits)
            layout = _layout(metric, settled, ends.values())
            if names_each:
                layout["legend"]["title"] = {"text": literal(", ".join(contents.group_keys))}
            views.append(View(metric, [*data, *_ends(ends)], layout, clip=figures.clip({"y": settled})))
    if not views:
        return None
    caption = "The y-axis fits the curves after the first tenth of the steps; double-click to show all."
    if dashed and views:
        looks = ", ".join(f"{value} ({_DASHES[dash]})" for value, dash in dashes.items())
        caption += f" Lines: {dashed}={looks}."
    if stopped:
        caption += " Crosses: halving stopped these points; dotted: its rungs."
    if "seed" in contents.keys:
        caption += " For several seeds: the mean, with a band of one standard error on each side."
    if contents.is_of_many:
        caption += (
            f" Coloured: the {len(drawn)} points with the best validation ELBO. Grey: the median of "
            f"{len(contents.spread):,} curves, chosen at random, with bands that hold the middle half and the "
            "middle four fifths of them."
        )
    return Figure("curves", "Learning curves", caption, views, 480)


def clocks(contents: Contents) -> dict[str, dict[str, list[float | None]]]:
    """The epochs and the hours at some steps of each curve, by the first run of its group; between them it is linear.

    Of several seeds, those of the one that has come furthest.
    """
    found = {}
    for run in contents.best[:_NUM_LINES] if contents.is_of_many else contents.groups:
        clock = max(
            (contents.runs[seed].rows.clock for seed in contents.groups[run]), key=lambda c: c.steps.max(initial=0)
        )
        if len(clock.steps):
            indices = kept(len(clock.steps), _NUM_CLOCK)
            found[run] = {name: figures.rounded(values[indices]) for name, values in clock._asdict().items()}
    return found


def _dashes(contents: Contents) -> tuple[str | None, dict[str, str]]:
    """The key that dashes represent, the second of the varying ones, and the dash of each value; None with too many."""
    key = figures.colour_key(contents.group_keys)
    beside = next((other for other in contents.group_keys if other != key), None)
    values = figures.choices(beside, contents.means[beside]) if beside else []
    return (beside, dict(zip(values, _DASHES, strict=False))) if 1 < len(values) <= len(_DASHES) else (None, {})


def mean_and_se(curves: Sequence[Curve]) -> Mean:
    """The mean over runs, by step, and its standard error.

    Steps that only some runs have are left out if more runs have a later one: of those, fewer rows were read.
    """
    if len(curves) < 2:
        steps, values = curves[0] if curves else (np.array([]), np.array([]))
        return Mean(steps, values, np.full(len(steps), np.nan))
    steps = curves[0].steps
    if all(np.array_equal(curve.steps, steps) for curve in curves):
        values = np.stack([curve.values for curve in curves])
        return Mean(steps, values.mean(0), values.std(0, ddof=1) / np.sqrt(len(curves)))
    by_step = pd.concat([pd.Series(curve.values, curve.steps) for curve in curves]).groupby(level=0)
    steps, count, mean, se = (
        np.array(x) for x in zip(*by_step.agg(["count", "mean", "sem"]).itertuples(), strict=True)
    )
    is_whole = count >= np.maximum.accumulate(count[::-1])[::-1]
    return Mean(steps[is_whole], mean[is_whole], se[is_whole])


def _spread(means: Sequence[Mean]) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """The traces of the median of many curves and of the bands around it, and the values that the y-axis shows."""
    longest = max(means, key=lambda mean: mean.steps[-1])
    steps = _thinned(longest, _FEWEST).steps
    values = np.stack([np.interp(steps, m.steps, m.mean, left=np.nan, right=np.nan) for m in means])
    edges = {share: np.nanquantile(values, share, axis=0) for shares in _BANDS for share in shares}
    data = [
        _band(steps, edges[low], edges[high], figures.INK + opacity, "all points")
        for (low, high), opacity in _BANDS.items()
    ]
    median = np.nanmedian(values, axis=0)
    hover = "median of all points<br>step %{x:,}: %{y:,.2f}<extra></extra>"
    line = {"color": figures.INK, "width": 1.6, "dash": "dash"}
    data.append(
        _line(Mean(steps, median, median), "all points", line, hover) | {"showlegend": True, "name": "all points"}
    )
    is_settled = steps >= START * steps[-1]
    return data, [edge[is_settled] for edge in edges.values()]


def _settled(curve: Mean) -> np.ndarray:
    return curve.mean[curve.steps >= START * curve.steps[-1]]


def _thinned(curve: Mean, num: int) -> Mean:
    indices = kept(len(curve.steps), num)
    return Mean(*(values[indices] for values in curve))


def kept(num: int, num_kept: int) -> list[int]:
    """At most `num_kept` evenly spaced indices in 0 ... num - 1, including both ends."""
    return np.unique(np.linspace(0, num - 1, min(num, num_kept)).round().astype(int)).tolist()


def room(num_curves: int) -> int:
    """The number of points that each of `num_curves` curves may have."""
    return max(_FEWEST, min(_MOST, _NUM_PLACES // max(num_curves, 1)))


def _name_colours(traces: Sequence[dict[str, Any]], key: str) -> None:
    """Add the first line of each colour to the legend; its entry shows and hides all lines of this colour."""
    named: set[str] = set()
    for trace in traces:
        group = trace["legendgroup"]
        if trace["mode"] != "none" and "meta" in trace and group not in named and len(named) < figures.MAX_NAMED:
            named.add(group)
            trace |= {"showlegend": True, "name": literal(f"{key}={group}")}


def _line_and_band(curve: Mean, name: str, group: str, look: dict[str, Any], run: str) -> list[dict[str, Any]]:
    """The traces of a curve and its band, in this group of the legend."""
    hover = f"{name}<br>%{{x:,}}: %{{y:,.2f}}<extra></extra>"
    line = _line(curve, group, look, hover) | {"meta": run}
    has_se = ~np.isnan(curve.se)
    if not has_se.any():
        return [line]
    steps, mean, se = (values[has_se] for values in curve)
    return [_band(steps, mean - se, mean + se, f"{look['color']}33", group) | {"meta": run}, line]


def _line(curve: Mean, choice: str, look: dict[str, Any], hover: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines" if len(curve.steps) > FEW else "lines+markers",
        "legendgroup": choice,
        "showlegend": False,
        "x": curve.steps.tolist(),
        "y": figures.rounded(curve.mean),
        "line": look,
        "hovertemplate": hover,
    }


def _band(steps: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str, choice: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "none",
        "legendgroup": choice,
        "showlegend": False,
        "x": [*steps.tolist(), *steps[::-1].tolist()],
        "y": figures.rounded([*high, *low[::-1]]),
        "fill": "toself",
        "fillcolor": colour,
        "hoverinfo": "skip",
    }


def _ends(curves: Mapping[str, Mean]) -> list[dict[str, Any]]:
    """The trace that marks where curves of stopped points end, by their runs; none without such points."""
    if not curves:
        return []
    ends = {
        "type": "scatter",
        "mode": "markers",
        "showlegend": True,
        "name": "stopped",
        "x": [int(curve.steps[-1]) for curve in curves.values()],
        "y": figures.rounded(curve.mean[-1] for curve in curves.values()),
        "customdata": list(curves),
        "marker": {"symbol": "x-thin-open", "size": 9, "color": figures.INK},
        "hoverinfo": "skip",
    }
    return [ends]


def _layout(metric: str, settled: np.ndarray, stopped: Iterable[Mean]) -> dict[str, Any]:
    low, high = float(np.nanmin(settled)), float(np.nanmax(settled))
    margin = 0.06 * (high - low) or 0.5
    possible = figures.possible(metric)
    bottom = max(low - margin, 0.0) if possible else low - margin
    return {
        "xaxis": {"title": {"text": "step"}},
        "yaxis": {
            "title": {"text": literal(catalogue.with_unit(metric))},
            "range": [bottom, high + margin],
            **possible,
        },
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "shapes": [
            {
                "type": "line",
                "x0": x,
                "x1": x,
                "y0": 0,
                "y1": 1,
                "yref": "paper",
                "line": {"dash": "dot", "width": 1, "color": figures.INK},
            }
            for x in sorted({int(curve.steps[-1]) for curve in stopped})
        ],
    }
