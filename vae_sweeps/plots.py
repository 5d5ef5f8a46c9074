"""Curves of one run, with matplotlib's Figure objects: no pyplot, so no state and no screen."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from vae_sweeps.store import write_whole

# Okabe & Ito (2008): told apart by colour-blind readers, and here by line and marker too.
_COLOURS = {"train": "#0072B2", "val": "#D55E00"}
_INK, _RULE = "#222222", "#dddddd"
_START = 0.1  # the part of the steps that does not decide the y-limits
_FEW_POINTS = 30
_TITLE_CHARACTERS = 100
_LOG_RATIO = 100.0  # a KL that spans more than this is drawn on a log scale
_NO_KL_NATS = 1e-3  # a log scale ends here: below, the posterior is the prior


def learning_curves(rows: pd.DataFrame | Sequence[Mapping[str, Any]], title: str) -> Figure:
    """ELBO, and its terms -log p(x|z) and KL, by step, in nats per image; 900 px wide.

    `rows` are those of metrics.jsonl: `step` and some of {train,val}/{elbo,log_px,kl}. What is missing or not
    finite is left out. The y-limits are those of the curves after the first tenth of the steps.
    """
    frame = pd.DataFrame(rows)
    figure = Figure(figsize=(9.0, 4.2), dpi=100, layout="constrained")
    figure.suptitle(textwrap.fill(title, _TITLE_CHARACTERS), color=_INK, fontsize=12)
    places = figure.add_gridspec(2, 2, width_ratios=(1.15, 1.0))
    elbo = figure.add_subplot(places[:, 0])
    error = figure.add_subplot(places[0, 1], sharex=elbo)
    kl = figure.add_subplot(places[1, 1], sharex=elbo)

    _draw(elbo, _curves(frame, "elbo"), "ELBO (nats per image)")
    _draw(error, _curves(frame, "log_px", sign=-1.0), "−log p(x|z) (nats per image)")
    _draw(kl, _curves(frame, "kl"), "KL (nats per image)", may_be_log=True)
    error.tick_params(labelbottom=False)
    for axes in (elbo, kl):
        axes.set_xlabel("step", color=_INK)

    last_step = np.max(np.asarray(frame["step"], float)) if len(frame) else 0.0
    elbo.set_xlim(0, max(1.02 * last_step, 1))
    elbo.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    elbo.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if elbo.lines:
        elbo.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0)
    return figure


def _curves(frame: pd.DataFrame, name: str, sign: float = 1.0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """split -> (steps, sign * values) of the finite values of `name`, in order of step."""
    curves = {}
    for split in _COLOURS:
        if f"{split}/{name}" in frame:
            values = np.asarray(frame[f"{split}/{name}"], float)
            steps = np.asarray(frame["step"], float)
            order = np.argsort(steps, kind="stable")
            order = order[np.isfinite(values[order])]
            if len(order):
                curves[split] = (steps[order], sign * values[order])
    return curves


def _draw(axes: Axes, curves: dict[str, tuple[np.ndarray, np.ndarray]], label: str, may_be_log: bool = False) -> None:
    axes.set_title(label, loc="left", fontsize=10, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    axes.tick_params(color="#888888", labelcolor=_INK, labelsize=9)
    axes.grid(color=_RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    if not curves:
        axes.text(0.5, 0.5, "no values yet", transform=axes.transAxes, ha="center", va="center", color="#666666")
        axes.set_yticks([])
        return
    for split, (steps, values) in curves.items():
        line = {"train": "-", "val": "--"}[split]
        # A lone point has no line, and a validation point is worth seeing as one.
        marker = "o" if len(steps) == 1 or (split == "val" and len(steps) <= _FEW_POINTS) else ""
        width, size = {"train": (1.0, 3.5), "val": (1.6, 4.5)}[split]
        axes.plot(
            steps, values, line, marker=marker, markersize=size, linewidth=width, color=_COLOURS[split], label=split
        )
    _limit(axes, np.concatenate([_settled(*curve) for curve in curves.values()]), may_be_log)


def _settled(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The values after the start of training; the last one is always among them."""
    return values[steps >= min(_START * steps[-1], steps[-1])]


def _limit(axes: Axes, values: np.ndarray, may_be_log: bool) -> None:
    low, high = values.min(), values.max()
    if may_be_log and low >= 0 and high > _LOG_RATIO * max(low, _NO_KL_NATS):
        axes.set_yscale("log")
        axes.set_ylim(max(low, _NO_KL_NATS) / 1.3, high * 1.3)
    else:
        margin = 0.06 * (high - low) or max(0.05 * abs(high), 0.5)
        axes.set_ylim(low - margin, high + margin)


def save(figure: Figure, path: Path) -> None:
    """Write `figure` in the format that `path`'s suffix names, whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.removeprefix("."))
    write_whole(path, content.getvalue())
