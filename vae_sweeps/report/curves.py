"""Learning curves: of groups of seeds as mean and band, and of single points."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vae_sweeps.analysis.format import cell
from vae_sweeps.analysis.style import START, USED_NATS
from vae_sweeps.report import figures
from vae_sweeps.report.contents import Contents, Run, label
from vae_sweeps.report.figures import Figure, View, literal
from vae_sweeps.runs import catalogue

_METRICS = [f"{split}/{name}" for name in catalogue.TERMS for split in ("val", "train")]
_NUM_PLACES, _FEWEST, _MOST = 12_000, 20, 200  # for all curves of one metric; for one curve
_FEW = 2  # with so few points, markers are needed
# The curves of one point: two splits in three panels, for the ELBO and its two terms.
_SPLITS = {"train": figures.COLOUR_OF_ONE, "val": "#e8743b"}
_PANELS = dict(zip(catalogue.TERMS, ("", "2", "3"), strict=True))


def learning_curves(contents: Contents) -> Figure | None:
    """Make a view for each metric of each split; None if no run has rows yet."""
    groups = {
        first: frames
        for first, members in contents.groups.items()
        if (frames := [pd.DataFrame(rows) for run in members if (rows := contents.runs[run].rows)])
    }
    configs = {row["run"]: row for row in contents.means.to_dict("records")}
    key = figures.colour_key(contents.group_keys)
    colours = figures.colours(figures.choices(key, contents.means[key]) if key else [""])
    num_kept = _room(len(groups))
    views = []
    for metric in _METRICS:
        data, limits = [], []
        for run, frames in groups.items():
            curve = _mean_and_se(frames, metric)
            if curve.empty:
                continue
            row = configs[run]
            choice = cell(key, row[key]) if key else ""
            name = label(row, contents.group_keys or ["beta", "latent"])
            several = f" ({len(frames)} seeds)" if len(frames) > 1 else ""
            limits.append(_settled(curve))
            data += _line_and_band(_thinned(curve, num_kept), literal(name + several), choice, colours[choice], run)
        if data:
            if key:
                _name_colours(data, key)
            views.append(View(metric, data, _layout(metric, pd.concat(limits))))
    if not views:
        return None
    caption = "The y-axis fits the curves after the first tenth of the steps; double-click to show all."
    if "seed" in contents.keys:
        caption += " For several seeds: the mean, with a band of one standard error on each side."
    return Figure("curves", "Learning curves", caption, views, 480)


def _mean_and_se(frames: Sequence[pd.DataFrame], metric: str) -> pd.DataFrame:
    """Columns mean and se by step, over the runs that have a value at this step."""
    values = [frame.set_index("step")[metric].astype("float64").dropna() for frame in frames if metric in frame]
    if not values:
        return pd.DataFrame({"mean": [], "se": []})
    if len(values) == 1:
        return pd.DataFrame({"mean": values[0], "se": np.nan})
    by_step = pd.concat(values).groupby(level=0)
    return pd.DataFrame({"mean": by_step.mean(), "se": by_step.sem(ddof=1)})


def _settled(curve: pd.DataFrame) -> pd.DataFrame:
    return curve.loc[curve.index >= START * curve.index[-1]]


def _thinned(curve: pd.DataFrame, num: int) -> pd.DataFrame:
    return curve.iloc[_kept(len(curve), num)]


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
        if trace["mode"] != "none" and group not in named and len(named) < figures.MAX_NAMED:
            named.add(group)
            trace |= {"showlegend": True, "name": literal(f"{key}={group}")}


def _line_and_band(curve: pd.DataFrame, name: str, choice: str, colour: str, run: str) -> list[dict[str, Any]]:
    """The traces of a curve and its band, in the legend group `choice`."""
    steps = curve.index.tolist()
    line = {
        "type": "scatter",
        "mode": "lines" if len(curve) > _FEW else "lines+markers",
        "legendgroup": choice,
        "showlegend": False,
        "x": steps,
        "y": figures.rounded(curve["mean"]),
        "line": {"color": colour, "width": 1.6},
        "meta": run,
        "hovertemplate": f"{name}<br>step %{{x:,}}: %{{y:,.2f}}<extra></extra>",
    }
    banded = curve.dropna()
    if banded.empty:
        return [line]
    low, high = banded["mean"] - banded["se"], banded["mean"] + banded["se"]
    band = {
        "type": "scatter",
        "mode": "none",
        "legendgroup": choice,
        "showlegend": False,
        "x": [*banded.index.tolist(), *reversed(banded.index.tolist())],
        "y": figures.rounded([*high, *reversed(list(low))]),
        "fill": "toself",
        "fillcolor": f"{colour}33",
        "hoverinfo": "skip",
    }
    return [band, line]


def _layout(metric: str, settled: pd.DataFrame) -> dict[str, Any]:
    low, high = settled["mean"].min(), settled["mean"].max()
    margin = 0.06 * (high - low) or 0.5
    return {
        "xaxis": {"title": {"text": "step"}},
        "yaxis": {"title": {"text": literal(catalogue.with_unit(metric))}, "range": [low - margin, high + margin]},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }


def of_point(run: Run, num_points: int) -> list[dict[str, Any]]:
    """The traces of one of `num_points` points for the panels of `POINT_LAYOUT`; empty if it has no rows yet."""
    traces = []
    for name, panel in _PANELS.items():
        for split, colour in _SPLITS.items():
            metric = f"{split}/{name}"
            curve = [(row["step"], row[metric]) for row in run.rows if row.get(metric) is not None]
            if not curve:
                continue
            steps, values = zip(*(curve[i] for i in _kept(len(curve), _room(num_points))), strict=True)
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines" if len(curve) > _FEW else "lines+markers",
                    "name": split,
                    "legendgroup": split,
                    "showlegend": name == "elbo",
                    "x": list(steps),
                    "y": figures.rounded(values),
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
