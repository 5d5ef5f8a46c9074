"""Learning curves: of groups of seeds as mean and band, and of single points."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vae_sweeps.analysis.format import cell
from vae_sweeps.analysis.style import START, USED_NATS
from vae_sweeps.report import figures
from vae_sweeps.report.contents import Contents, Run, label
from vae_sweeps.report.figures import Figure, View, literal
from vae_sweeps.report.rows import METRICS, Curve
from vae_sweeps.runs import catalogue
from vae_sweeps.runs.run_folder import STOPPED

_NUM_PLACES, _FEWEST, _MOST = 12_000, 20, 200  # for all curves of one metric; for one curve
_FEW = 2  # with so few points, markers are needed
_NUM_LINES = 20  # of the best points, if there are many
# Of many points: the shares of their curves that lie below the edges of the bands, and how opaque the bands are.
_BANDS = {(0.1, 0.9): "26", (0.25, 0.75): "40"}
# The curves of one point: two splits in three panels, for the ELBO and its two terms.
_SPLITS = {"train": figures.COLOUR_OF_ONE, "val": "#e8743b"}
_PANELS = dict(zip(catalogue.TERMS, ("", "2", "3"), strict=True))


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
        if (curves := [contents.runs[run].curves for run in members if contents.runs[run].curves])
    }
    key = figures.colour_key(contents.group_keys)
    colours = figures.colours(figures.choices(key, contents.means[key]) if key else [""])
    drawn = [run for run in contents.best[:_NUM_LINES] if run in groups] if contents.is_of_many else list(groups)
    shown = contents.means.loc[contents.means["run"].isin(drawn)] if len(contents.means) else contents.means
    configs = {row["run"]: row for row in shown.to_dict("records")}
    num_kept = _room(len(drawn))
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
            curve = _thinned(means[run], num_kept)
            data += _line_and_band(curve, literal(name + several), choice, colours[choice], run)
        if data:
            if key:
                _name_colours(data, key)
            ends = [means[run] for run in drawn if run in means and run in stopped]
            views.append(View(metric, [*data, *_ends(ends)], _layout(metric, np.concatenate(limits), ends)))
    if not views:
        return None
    caption = "The y-axis fits the curves after the first tenth of the steps; double-click to show all."
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
    kept = _kept(len(curve.steps), num)
    return Mean(*(values[kept] for values in curve))


def _kept(num: int, num_kept: int) -> list[int]:
    """At most `num_kept` evenly spaced indices in 0 ... num - 1, including both ends."""
    return np.unique(np.linspace(0, num - 1, min(num, num_kept)).round().astype(int)).tolist()


def _room(num_curves: int) -> int:
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


def _line_and_band(curve: Mean, name: str, choice: str, colour: str, run: str) -> list[dict[str, Any]]:
    """The traces of a curve and its band, in the legend group `choice`."""
    hover = f"{name}<br>step %{{x:,}}: %{{y:,.2f}}<extra></extra>"
    line = _line(curve, choice, {"color": colour, "width": 1.6}, hover) | {"meta": run}
    has_se = ~np.isnan(curve.se)
    if not has_se.any():
        return [line]
    steps, mean, se = (values[has_se] for values in curve)
    return [_band(steps, mean - se, mean + se, f"{colour}33", choice), line]


def _line(curve: Mean, choice: str, look: dict[str, Any], hover: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines" if len(curve.steps) > _FEW else "lines+markers",
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


def _ends(curves: Sequence[Mean]) -> list[dict[str, Any]]:
    """The trace that marks where curves of stopped points end; none without such points."""
    if not curves:
        return []
    ends = {
        "type": "scatter",
        "mode": "markers",
        "showlegend": True,
        "name": "stopped",
        "x": [int(curve.steps[-1]) for curve in curves],
        "y": figures.rounded(curve.mean[-1] for curve in curves),
        "marker": {"symbol": "x-thin-open", "size": 9, "color": figures.INK},
        "hoverinfo": "skip",
    }
    return [ends]


def _layout(metric: str, settled: np.ndarray, stopped: Sequence[Mean]) -> dict[str, Any]:
    low, high = float(np.nanmin(settled)), float(np.nanmax(settled))
    margin = 0.06 * (high - low) or 0.5
    return {
        "xaxis": {"title": {"text": "step"}},
        "yaxis": {"title": {"text": literal(catalogue.with_unit(metric))}, "range": [low - margin, high + margin]},
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


def of_point(run: Run, num_points: int) -> list[dict[str, Any]]:
    """The traces of one of `num_points` points for the panels of `POINT_LAYOUT`; empty if it has no rows yet."""
    traces = []
    for name, panel in _PANELS.items():
        for split, colour in _SPLITS.items():
            if (curve := run.curves.get(f"{split}/{name}")) is None:
                continue
            kept = _kept(len(curve.steps), _room(num_points))
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines" if len(curve.steps) > _FEW else "lines+markers",
                    "name": split,
                    "legendgroup": split,
                    "showlegend": name == "elbo",
                    "x": curve.steps[kept].tolist(),
                    "y": figures.rounded(curve.values[kept]),
                    "xaxis": f"x{panel}",
                    "yaxis": f"y{panel}",
                    "line": {"color": colour, "width": 1.6, "dash": "solid" if split == "train" else "dash"},
                }
            )
    return traces


POINT_LAYOUT = {
    "grid": {"rows": 3, "columns": 1, "pattern": "independent", "ygap": 0.3},
    **{f"yaxis{panel}": {"title": {"text": name}} for name, panel in _PANELS.items()},
    "xaxis3": {"title": {"text": "step"}},
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
}


def kl_bars(run: Run) -> list[dict[str, Any]]:
    """The trace of the KL of each latent, largest first; empty until the point is done."""
    kl = run.result.get("kl_per_latent") or []
    order = sorted((i for i, nats in enumerate(kl) if nats is not None), key=lambda i: -kl[i])
    if not order:
        return []
    used = [figures.COLOUR_OF_ONE if kl[i] > USED_NATS else figures.INK for i in order]
    bars = {
        "type": "bar",
        "x": list(map(str, order)),
        "y": figures.rounded(kl[i] for i in order),
        "hovertemplate": "latent %{x}: %{y:.3f} nats<extra></extra>",
        "marker": {"color": used},
    }
    return [bars]


KL_LAYOUT = {
    "xaxis": {"title": {"text": "latent, largest KL first"}, "type": "category"},
    "yaxis": {"title": {"text": "KL (nats per image)"}},
    "bargap": 0.1,
}
