"""Figures of one run: its learning curves, and the KL of each latent."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from vae_sweeps.analysis.style import (
    BLUE,
    COLOURS,
    INK,
    NO_KL_NATS,
    START,
    USED_NATS,
    VERMILION,
    new_figure,
    say,
    style,
)

_SPLITS = {"train": BLUE, "val": VERMILION}  # line style and marker differ too
_UNUSED = COLOURS[-1]
_FEW_POINTS = 30
_LOG_RATIO = 100.0  # a KL that spans more than this is drawn on a log scale
_FEW_BARS = 6
_MANY_BARS = 20  # more labels would touch


def learning_curves(rows: pd.DataFrame | Sequence[Mapping[str, Any]], title: str, *, is_log: bool = False) -> Figure:
    """Plot the ELBO and its terms -log p(x|z) and KL by step, in nats per image; 900 px wide.

    `rows` are those of metrics.jsonl: `step` and some of {train,val}/{elbo,log_px,kl}. Values that are missing or not
    finite are left out. The y-limits fit the curves after the first tenth of the steps. `is_log` is for rows at powers
    of two: it plots -ELBO, with logarithmic axes if all values are above 0, and with limits that fit all rows.
    """
    frame = pd.DataFrame(rows)
    figure = new_figure(9.0, 4.2, title)
    places = figure.add_gridspec(2, 2, width_ratios=(1.15, 1.0))
    elbo = figure.add_subplot(places[:, 0])
    error = figure.add_subplot(places[0, 1], sharex=elbo)
    kl = figure.add_subplot(places[1, 1], sharex=elbo)

    if is_log:
        _draw(elbo, _curves(frame, "elbo", sign=-1.0), "−ELBO (nats per image)")
    else:
        _draw(elbo, _curves(frame, "elbo"), "ELBO (nats per image)")
    _draw(error, _curves(frame, "log_px", sign=-1.0), "−log p(x|z) (nats per image)")
    _draw(kl, _curves(frame, "kl"), "KL (nats per image)", may_be_log=True)
    error.tick_params(labelbottom=False)
    for axes in (elbo, kl):
        axes.set_xlabel("step", color=INK)

    last_step = np.max(np.asarray(frame["step"], float)) if len(frame) else 0.0
    elbo.set_xlim(0, max(1.02 * last_step, 1))
    elbo.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    elbo.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if is_log:
        _set_log(figure.axes)
    if elbo.lines:
        elbo.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0)
    return figure


def _set_log(all_axes: Sequence[Axes]) -> None:
    """Make both axes logarithmic, with limits that fit all values, if these are above 0."""
    for axes in all_axes:
        values = np.concatenate([np.asarray(line.get_data()) for line in axes.lines] or [np.zeros((2, 0))], axis=1)
        if values.size and values.min() > 0:
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.autoscale()
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.4g}"))
            axes.yaxis.set_minor_locator(NullLocator())


def _curves(frame: pd.DataFrame, name: str, sign: float = 1.0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Map each split to (steps, sign * values) for the finite values of `name`, in order of step."""
    curves = {}
    for split in _SPLITS:
        if f"{split}/{name}" in frame:
            values = np.asarray(frame[f"{split}/{name}"], float)
            steps = np.asarray(frame["step"], float)
            order = np.argsort(steps, kind="stable")
            order = order[np.isfinite(values[order])]
            if len(order):
                curves[split] = (steps[order], sign * values[order])
    return curves


def _draw(axes: Axes, curves: dict[str, tuple[np.ndarray, np.ndarray]], label: str, may_be_log: bool = False) -> None:
    style(axes, label)
    if not curves:
        say(axes, "no values yet")
        return
    for split, (steps, values) in curves.items():
        line = {"train": "-", "val": "--"}[split]
        # A single point has no line, and a few validation points are easier to see with markers.
        marker = "o" if len(steps) == 1 or (split == "val" and len(steps) <= _FEW_POINTS) else ""
        width, size = {"train": (1.0, 3.5), "val": (1.6, 4.5)}[split]
        axes.plot(
            steps, values, line, marker=marker, markersize=size, linewidth=width, color=_SPLITS[split], label=split
        )
    _limit(axes, np.concatenate([_settled(*curve) for curve in curves.values()]), may_be_log)


def _settled(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The values after the start of training; the last value is always included."""
    return values[steps >= min(START * steps[-1], steps[-1])]


def _limit(axes: Axes, values: np.ndarray, may_be_log: bool) -> None:
    low, high = values.min(), values.max()
    if may_be_log and low >= 0 and high > _LOG_RATIO * max(low, NO_KL_NATS):
        axes.set_yscale("log")
        axes.set_ylim(max(low, NO_KL_NATS) / 1.3, high * 1.3)
    else:
        margin = 0.06 * (high - low) or max(0.05 * abs(high), 0.5)
        axes.set_ylim(low - margin, high + margin)


def kl_bars(kl: np.ndarray, title: str) -> Figure:
    """Plot the KL [L] of each latent in nats per image, largest first; 780 px wide. NaN and infinity are left out."""
    figure = new_figure(7.8, 3.8, title)
    axes = figure.add_subplot()
    order = np.argsort(-kl, kind="stable")
    order = order[np.isfinite(kl[order])]
    heights = np.asarray(kl[order], float)
    notes = ["KL (nats per image)"]
    if len(heights):
        num_used = (heights > USED_NATS).sum()
        notes += [f"{heights.sum():.4g} in total", f"{num_used} of {len(kl)} latents above {USED_NATS}"]
    notes += [f"{len(kl) - len(heights)} not finite"] if len(heights) < len(kl) else []
    style(axes, ", ".join(notes))
    axes.grid(visible=False, axis="x")
    if not len(heights):
        say(axes, "no finite values")
        axes.set_xticks([])
        return figure
    ranks = np.arange(1, len(heights) + 1)
    colours = np.where(heights > USED_NATS, BLUE, _UNUSED)
    few = len(heights) <= _MANY_BARS
    axes.bar(ranks, heights, width=0.8 if few else 1.0, color=colours.tolist())
    axes.set_ylim(0, 1.06 * heights[0] if heights[0] > 0 else 1)
    margin = max(0, _FEW_BARS - len(heights)) / 2  # keeps one or two bars from filling the figure
    axes.set_xlim(0.5 - margin, len(heights) + 0.5 + margin)
    if few:
        axes.set_xticks(ranks, [str(i) for i in order])
        axes.set_xlabel("latent, largest KL first", color=INK)
    else:
        axes.set_xlabel("rank of latent", color=INK)
    return figure
