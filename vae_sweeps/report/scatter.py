"""Scatter plots of finished points: rate and distortion, scores and reconstruction error, precision and recall."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from vae_sweeps.analysis.format import cell
from vae_sweeps.analysis.style import NO_KL_NATS, NUM_ISO_LINES
from vae_sweeps.report import figures
from vae_sweeps.report.contents import Contents, label
from vae_sweeps.report.figures import Figure, View, literal
from vae_sweeps.runs import catalogue
from vae_sweeps.runs.catalogue import with_unit

_MAX_WRITTEN = 60  # with more points, there is no room for labels
_NUM_STEPS = 120  # points per iso-ELBO line
_JOINED = "Thin lines join points that differ only in beta. "
_GREY = (
    "For grey pixels under a Bernoulli likelihood both terms are cross-entropies and no likelihoods; they compare "
    "within one set of images."
)
_WIDE = 30.0  # if the rate spans more than this factor, its log axis is the default


class Axis(NamedTuple):
    """A column of the table as an axis; `sign` is -1 to turn log p(x|z) into an error."""

    column: str
    title: str
    sign: float = 1.0

    def values(self, frame: pd.DataFrame) -> np.ndarray:
        return self.sign * figures.floats(frame, self.column)

    def layout(self) -> dict[str, Any]:
        return {"title": {"text": literal(self.title)}, **(figures.possible(self.column) if self.sign > 0 else {})}


_RATE = Axis("test/kl", f"rate: {with_unit('test/kl')}")
_DISTORTION = Axis("test/log_px", f"distortion: −{with_unit('test/log_px')}", -1.0)
_ERRORS = (Axis("test/log_px", f"−{with_unit('test/log_px')}", -1.0), Axis("test/psnr", with_unit("test/psnr")))


def rate_distortion(contents: Contents) -> Figure | None:
    """Plot the KL against -log p(x|z), with lines of constant ELBO = -(rate + distortion); None without numbers."""
    shown = _with_both(contents.means, _RATE, _DISTORTION)
    if shown.empty:
        return None
    rate, distortion = _RATE.values(shown), _DISTORTION.values(shown)
    low, high = (max(v, NO_KL_NATS) for v in (rate.min(), rate.max()))
    margin = 0.08 * (distortion.max() - distortion.min()) or 1.0
    bottom, top = distortion.min() - margin, distortion.max() + margin
    decades = [math.log10(low / 1.4), math.log10(high * 1.4)]
    coarse, fine = _levels(-rate - distortion)
    scales = {
        "linear rate": (coarse, np.linspace(0, 1.08 * high, _NUM_STEPS), {"range": [0, 1.08 * high]}),
        "log rate": (fine, np.logspace(decades[0], decades[1], _NUM_STEPS), {"type": "log", "range": decades}),
    }
    if high > _WIDE * low:
        scales = dict(reversed(scales.items()))
    points, layout = _scatter(contents, shown, _RATE, _DISTORTION)
    views = [
        View(
            name,
            [*(line for elbo in elbos for line in _iso_elbo(elbo, x, bottom, top)), *points],
            {**layout, "xaxis": {**layout["xaxis"], **axis}, "yaxis": {**layout["yaxis"], "range": [bottom, top]}},
            clip=figures.clip({"y": distortion} if "type" in axis else {"x": rate, "y": distortion}),
        )
        for name, (elbos, x, axis) in scales.items()
    ]
    caption = (
        "Each dotted line has constant ELBO (at beta = 1), labelled at its top; lower left is better. "
        f"{_JOINED if _is_joined(contents) else ''}{_GREY if _has_bernoulli(contents) else ''}"
    )
    return Figure("rate-distortion", "Rate and distortion", figures.averaged(caption, contents.keys), views, 480)


def fid(contents: Contents) -> Figure | None:
    """Plot the FID of each kind of images against the reconstruction error; None if no point has an FID."""
    names = (name for name in figures.metrics(contents.means) if name.startswith("fid/"))
    views = _against_errors(contents, [name for name in names if not name.endswith(f"/{catalogue.FLOOR}")])
    if not views:
        return None
    caption = (
        "Lower FID is better. If prior samples of a point are far worse than its reconstructions, "
        "the prior fits its latents badly."
    )
    return Figure("fid", "FID and reconstruction error", figures.averaged(caption, contents.keys), views)


def factors(contents: Contents) -> Figure | None:
    """Plot each metric of disentanglement against the reconstruction error; None if no point has any."""
    names = catalogue.by_interest(catalogue.names("factors"))  # the first is shown initially
    views = _against_errors(contents, [name for name in names if figures.has(contents.means, name)])
    if not views:
        return None
    caption = (
        "Higher scores are better. A larger beta often separates the factors better and reconstructs worse. Scores of "
        "seeds differ much, so compare means over several seeds."
    )
    return Figure(
        "factors", "Factors of variation and reconstruction error", figures.averaged(caption, contents.keys), views
    )


def precision_recall(contents: Contents) -> Figure | None:
    """Plot precision against recall, and density against coverage, of each kind of images; None if no point has any."""
    means, views = contents.means, []
    scores = [name.split("/")[1:] for name in figures.metrics(means) if name.startswith("prdc/")]
    for up, across in (("precision", "recall"), ("density", "coverage")):
        for features, name, samples in scores:
            if name != up or samples == catalogue.FLOOR:
                continue
            x, y = (Axis(column, column) for column in (f"prdc/{features}/{n}/{samples}" for n in (across, up)))
            data, layout = _scatter(contents, _with_both(means, x, y), x, y)
            shown = _with_both(means, x, y)
            outside = figures.clip({"x": x.values(shown), "y": y.values(shown)})
            views.append(View(y.column, [_floor(means, x, y), *data], layout, f"{up} against {across}", outside))
    if not views:
        return None
    caption = (
        "The cross marks training images: samples of a perfect model would be there. Above it, samples are typical "
        "images only. To its left, they miss some of the real images, or are all blurred; below it, some are like no "
        "real image."
    )
    return Figure("prdc", "Precision and recall", figures.averaged(caption, contents.keys), views)


def _against_errors(contents: Contents, scores: Sequence[str]) -> list[View]:
    """A view of each score against each measure of the reconstruction error that points have."""
    views = []
    for error in _ERRORS:
        for score in scores if figures.has(contents.means, error.column) else ():
            shown = _with_both(contents.means, error, Axis(score, score))
            data, layout = _scatter(contents, shown, error, Axis(score, score))
            outside = figures.clip({"x": error.values(shown), "y": figures.floats(shown, score)})
            views.append(View(score, data, layout, f"against {error.title}", outside))
    return views


def _floor(means: pd.DataFrame, x: Axis, y: Axis) -> dict[str, Any]:
    """Mark the scores of training images, which do not depend on the model."""
    across, up = (figures.floats(means, f"{axis.column.rsplit('/', 1)[0]}/{catalogue.FLOOR}") for axis in (x, y))
    return {
        "type": "scatter",
        "mode": "markers",
        "x": figures.rounded([float(np.nanmean(across))]),
        "y": figures.rounded([float(np.nanmean(up))]),
        "marker": {"symbol": "x-thin", "size": 12, "line": {"width": 2, "color": figures.INK}},
        "hovertemplate": "training images<br>%{x:,.2f}, %{y:,.2f}<extra></extra>",
        "showlegend": False,
    }


def _levels(elbo: np.ndarray) -> tuple[list[float], list[float]]:
    """Round values over the range of `elbo`; and more in its better half, which a log axis spreads out."""
    coarse = [float(v) for v in MaxNLocator(NUM_ISO_LINES).tick_values(elbo.min(), elbo.max())]
    better = [float(v) for v in MaxNLocator(NUM_ISO_LINES // 2).tick_values(float(np.median(elbo)), elbo.max())]
    return coarse, sorted({*coarse, *better})


def _with_both(means: pd.DataFrame, x: Axis, y: Axis) -> pd.DataFrame:
    if not (figures.has(means, x.column) and figures.has(means, y.column)):
        return means.iloc[:0]
    return means.loc[np.isfinite(x.values(means)) & np.isfinite(y.values(means))]


def _iso_elbo(elbo: float, rate: np.ndarray, bottom: float, top: float) -> list[dict[str, Any]]:
    """The line distortion = -elbo - rate, labelled at its top; an empty list if it lies outside the view."""
    distortion = -elbo - rate
    inside = (distortion >= bottom) & (distortion <= top)
    if inside.sum() < 2:
        return []
    line = {
        "type": "scatter",
        "mode": "lines+text",
        "x": figures.rounded(rate[inside]),
        "y": figures.rounded(distortion[inside]),
        "text": [f"\u00a0\u00a0{elbo:,.6g}", *[""] * (int(inside.sum()) - 1)],
        "textposition": "bottom right",
        "textfont": {"size": 10, "color": figures.INK},
        "line": {"color": figures.INK, "width": 1, "dash": "dot"},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    return [line]


def _scatter(contents: Contents, shown: pd.DataFrame, x: Axis, y: Axis) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Make traces and layout: a colour for each beta, and labels with the values of the other keys."""
    keys = contents.group_keys
    coloured = figures.colour_key(keys)
    beside = [key for key in keys if key != coloured]
    names, colours = _names(contents, coloured, shown)
    order = [name for name in colours if name in set(names)]
    named = set(order[:: -(-len(order) // figures.MAX_NAMED)])
    has_labels = beside and len(shown) <= _MAX_WRITTEN
    traces = _joined(shown, beside, x, y) if _is_joined(contents) else []
    with_error = [] if contents.is_of_many else [("x", x), ("y", y)]  # the bars of many points hide them
    by_name = dict(iter(shown.groupby(pd.Series(names, index=shown.index), sort=False)))
    for name in order:
        rows = by_name[name]
        records = rows.loc[:, keys].to_dict("records")
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text" if has_labels else "markers",
                "name": literal(f"{coloured}={name}"),
                "x": figures.rounded(x.values(rows)),
                "y": figures.rounded(y.values(rows)),
                **{f"error_{way}": _error(rows, axis) for way, axis in with_error if _has_error(rows, axis)},
                **({"text": [literal(figures.written(row, beside)) for row in records]} if has_labels else {}),
                "textposition": "top right",
                "textfont": {"size": 10},
                "marker": {"size": 9, "color": colours[name], "line": {"width": 0.5, "color": figures.INK}},
                "customdata": contents.targets(rows["run"]),
                "hovertext": [literal(label(row, keys)) for row in records],
                "hovertemplate": f"%{{hovertext}}<br>%{{x:{_format(x)}}}, %{{y:{_format(y)}}}<extra></extra>",
                "showlegend": coloured is not None and name in named,
            }
        )
    return traces, {
        "xaxis": x.layout(),
        "yaxis": y.layout(),
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }


def _names(contents: Contents, key: str | None, shown: pd.DataFrame) -> tuple[list[str], dict[str, str]]:
    """The name of each row's colour, and the colours in order; of very many values, neighbours share a colour."""
    colours = figures.palette(contents)
    if key is None:
        return [""] * len(shown), colours
    order, names = list(colours), [cell(key, v) for v in shown[key]]
    if len(order) <= figures.MOST_COLOURS:
        return names, colours
    every = -(-len(order) // figures.MAX_NAMED)
    parts = [order[i : i + every] for i in range(0, len(order), every)]
    shared = {name: f"{part[0]} to {part[-1]}" for part in parts for name in part}
    return [shared[name] for name in names], figures.colours(list(dict.fromkeys(shared.values())))


def _format(axis: Axis) -> str:
    """The format of the axis's values, for plotly: with the decimals of the column."""
    metric = catalogue.find(axis.column)
    decimals = metric.decimals if metric is not None else None
    return f",.{2 if decimals is None else decimals}f"


def _has_error(rows: pd.DataFrame, axis: Axis) -> bool:
    return figures.has(rows, f"{axis.column}/se")


def _error(rows: pd.DataFrame, axis: Axis) -> dict[str, Any]:
    errors = figures.rounded(figures.floats(rows, f"{axis.column}/se"))
    return {"type": "data", "array": errors, "thickness": 1, "width": 2}


def _is_joined(contents: Contents) -> bool:
    """Whether lines join the points that differ only in beta."""
    return "beta" in contents.group_keys and not contents.is_of_many


def _has_bernoulli(contents: Contents) -> bool:
    means = contents.means
    return "likelihood" not in means or bool((means["likelihood"] == "bernoulli").any())


def _joined(shown: pd.DataFrame, keys: Sequence[str], x: Axis, y: Axis) -> list[dict[str, Any]]:
    """Draw a thin line through the points that differ only in beta, in the order of beta."""
    by_beta = shown.sort_values("beta", kind="stable")
    groups = [rows for _, rows in by_beta.groupby(list(keys), sort=False, dropna=False)] if keys else [by_beta]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": figures.rounded(x.values(rows)),
            "y": figures.rounded(y.values(rows)),
            "line": {"color": figures.INK, "width": 1},
            "opacity": 0.6,
            "hoverinfo": "skip",
            "showlegend": False,
        }
        for rows in groups
        if len(rows) > 1
    ]
