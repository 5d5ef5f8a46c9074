"""Plots of a sweep's table on matplotlib axes.

A mark is a finished point or, if points differ only in their seed, the mean over seeds with a bar of one standard
error. Each function takes the axes first and returns them. Every config column that varies must be shown on the plot,
fixed to one value or averaged over; otherwise the function raises ValueError.
"""

import math
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter

from vae_sweeps.analysis.marks import (
    DISTORTION,
    colours,
    draw,
    dress,
    groups,
    label,
    marker,
    marks,
    ordered,
    score_column,
    text,
    ticks,
)
from vae_sweeps.analysis.seeds import SE
from vae_sweeps.analysis.style import BLUE, EDGE, FAINT_INK, INK, NUM_ISO_LINES

SEEDS = "_seeds"  # the label of the dots of single seeds
_MANY_DIGITS = 100  # from this value on, a cell of a heat map has no decimals
_WIDE_RATE = 100.0  # rates that span more than this factor are drawn on a log axis


def against(axes: Axes, table: pd.DataFrame, x: str, y: str, by: str | None = None) -> Axes:
    """Plot column `y` over column `x`, one line per value of `by`; beta, sigma and latent size have a log axis."""
    frame = marks(table, _with(x, by), [y])
    values = [value for value, _ in groups(frame, by)]
    looks = [
        {
            "color": colour,
            "marker": marker(k),
            "markersize": max(8 - k, 5),
        }  # smaller ones lie on top: all are visible
        for k, colour in enumerate(colours(values))
    ]
    for (_, rows), look in zip(groups(frame, by), looks, strict=True):
        draw(axes, rows.sort_values(x, kind="stable"), x, y, **look)
    dress(axes, x, y, frame)
    if by is not None:
        shown = [Line2D([], [], label=text(value), **look) for value, look in zip(values, looks, strict=True)]
        axes.legend(handles=shown, title=label(by), frameon=False, fontsize=9)
    return axes


def seeds_against(axes: Axes, table: pd.DataFrame, x: str, y: str) -> Axes:
    """Plot column `y` over the key `x`: a dot for each seed, and their mean with a band of one standard error of it.

    Raises ValueError for a table of averages, which has no seeds.
    """
    frame = marks(table, [x], [y]).sort_values(x, kind="stable")
    dots = _single_points(table, [x, y])
    axes.plot(dots[x], dots[y], "o", color=FAINT_INK, markersize=4, alpha=0.7, zorder=3, label=SEEDS)
    low, high = frame[y] - frame[f"{y}{SE}"], frame[y] + frame[f"{y}{SE}"]
    axes.fill_between(frame[x], low, high, color=BLUE, alpha=0.25, linewidth=0, zorder=1, label="_band")
    axes.plot(frame[x], frame[y], color=BLUE, linewidth=1.5, zorder=2, label="_mean")
    dress(axes, x, y, frame)
    return axes


def active_units(axes: Axes, table: pd.DataFrame, by: str | None = "beta") -> Axes:
    """Plot active units over latent size, with the diagonal that they cannot exceed."""
    against(axes, table, "latent", "test/active_units", by)
    sizes = ordered(table["latent"])
    ends = [sizes[0], sizes[-1]]
    axes.plot(ends, ends, "--", color=FAINT_INK, linewidth=1, zorder=1, label="_diagonal")
    axes.set_yscale("symlog", linthresh=1, linscale=0.5)  # 0 means collapse and must be visible
    ticks(axes, "y", sorted({0, 1, *sizes}))
    axes.set_ylim(-0.3, 1.3 * sizes[-1])
    return axes


def heat_map(axes: Axes, table: pd.DataFrame, metric: str, down: str = "beta", across: str = "latent") -> Axes:
    """Draw a cell for each pair of values, with `metric` as its colour and its text; a pair without one has a dash."""
    frame = marks(table, [down, across], [metric])
    rows, columns = ordered(table[down].dropna()), ordered(table[across].dropna())
    values = frame.pivot(index=down, columns=across, values=metric).reindex(index=rows, columns=columns)
    cells = values.to_numpy(float)
    image = axes.imshow(np.ma.masked_invalid(cells), cmap="cividis", aspect="auto")
    middle = (np.nanmin(cells) + np.nanmax(cells)) / 2
    for i, j in np.ndindex(cells.shape):
        value = float(cells[i, j])
        words, ink = "–", INK
        if math.isfinite(value):
            words = text(round(value, 2) if abs(value) < _MANY_DIGITS else round(value))
            ink = "white" if value < middle else INK
        axes.text(j, i, words, ha="center", va="center", color=ink, fontsize=9)
    axes.set_xticks(range(len(columns)), [text(value) for value in columns])
    axes.set_yticks(range(len(rows)), [text(value) for value in rows])
    axes.set_xlabel(label(across), color=INK)
    axes.set_ylabel(label(down), color=INK)
    axes.tick_params(length=0, labelcolor=INK, labelsize=9)
    axes.spines[:].set_visible(False)
    axes.figure.colorbar(image, ax=axes, label=label(metric))
    return axes


def rate_distortion(
    axes: Axes, table: pd.DataFrame, by: str | None = None, split: Literal["train", "val", "test"] = "test"
) -> Axes:
    """Plot distortion -log p(x|z) over rate KL, coloured by beta; each dotted line has constant ELBO at beta = 1.

    Points with the same value of `by` share a marker and are joined in the order of beta (Alemi et al. 2018, fig. 1).
    """
    rate = f"{split}/kl"
    frame = _with_distortion(marks(table, _with("beta", by), [rate, f"{split}/log_px"]), split)
    _plane(axes, frame, rate, DISTORTION, by)
    axes.set_ylabel(f"{split} {label(DISTORTION)}", color=INK)
    rates = np.asarray(frame[rate], float)
    if rates.max() > _WIDE_RATE * max(rates.min(), 1.0):
        axes.set_xscale("symlog", linthresh=1, linscale=0.5)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    _iso_elbo_lines(axes)
    return axes


def score_against_distortion(
    axes: Axes, table: pd.DataFrame, by: str | None = None, score: str = "fid", samples: str = "prior"
) -> Axes:
    """Plot FID (or KID) of `samples` (prior, mixture or reconstruction) over the test reconstruction error -log p(x|z).

    Colours show beta, and markers `by`. The dashed line is the score of training images; a lower score means nothing.
    """
    column, floor = score_column(table, score, samples), score_column(table, score, "floor")
    frame = _with_distortion(marks(table, _with("beta", by), ["test/log_px", column]), "test")
    _plane(axes, frame, DISTORTION, column, by)
    at = np.asarray(frame[floor], float).mean()
    axes.axhline(at, color=FAINT_INK, linewidth=1, linestyle="--", zorder=1, label="_floor")
    axes.set_xlabel(f"test {label(DISTORTION)}", color=INK)
    return axes


def seeds_against_distortion(axes: Axes, table: pd.DataFrame, y: str) -> Axes:
    """Plot column `y` over the test reconstruction error -log p(x|z), coloured by beta.

    Small dots are single seeds, and large marks their means with bars of one standard error, joined in the order of
    beta. Raises ValueError for a table of averages, which has no seeds.
    """
    frame = _with_distortion(marks(table, ["beta"], ["test/log_px", y]), "test")
    dots = _single_points(table, ["beta", "test/log_px", y])
    betas = ordered(frame["beta"])
    for beta, colour in zip(betas, colours(betas), strict=True):
        rows = dots.loc[dots["beta"] == beta]
        axes.plot(-rows["test/log_px"], rows[y], "o", color=colour, markersize=4, alpha=0.6, label=SEEDS)
    _plane(axes, frame, DISTORTION, y, None)
    axes.set_xlabel(f"test {label(DISTORTION)}", color=INK)
    return axes


def precision_recall(axes: Axes, table: pd.DataFrame, by: str | None = None, samples: str = "prior") -> Axes:
    """Plot the precision over the recall of `samples` (prior, mixture or reconstruction).

    Colours show beta, and markers `by`. The cross is at the values of training images: a perfect model would be there.
    """
    x, y = (score_column(table, f"prdc/{name}", samples) for name in ("recall", "precision"))
    frame = marks(table, _with("beta", by), [x, y])
    _plane(axes, frame, x, y, by)
    floor = [frame[score_column(table, f"prdc/{name}", "floor")].mean() for name in ("recall", "precision")]
    axes.plot(*floor, "x", color=FAINT_INK, markersize=9, markeredgewidth=2, zorder=1, label="_floor")
    return axes


def _single_points(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The finished points that have numbers in `columns`, one row each."""
    if "run" not in table:
        raise ValueError("this table holds averages; plot single seeds from a table with a row for each point")
    return table.loc[table["status"] == "done"].dropna(subset=columns)


def _with(key: str, by: str | None) -> list[str]:
    return [key] if by is None else [key, by]


def _with_distortion(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    return frame.assign(**{DISTORTION: -frame[f"{split}/log_px"], f"{DISTORTION}{SE}": frame[f"{split}/log_px{SE}"]})


def _plane(axes: Axes, frame: pd.DataFrame, x: str, y: str, by: str | None) -> None:
    """Draw marks coloured by beta, with one shape per value of `by`, joined by a line in the order of beta."""
    betas = ordered(frame["beta"])
    colour_of = dict(zip(betas, colours(betas), strict=True))
    shown = [Line2D([], [], linestyle="", marker="o", color=colour_of[beta], label=f"β = {beta:g}") for beta in betas]
    for k, (value, rows) in enumerate(groups(frame, by)):
        rows = rows.sort_values("beta", kind="stable")
        axes.plot(rows[x], rows[y], color=EDGE, linewidth=1, zorder=2, label="_joined")
        for beta, points in rows.groupby("beta"):
            draw(axes, points, x, y, color=colour_of[beta], marker=marker(k), markersize=6, linestyle="", zorder=3)
        if by is not None:
            name = f"{label(by)} = {text(value)}"
            shown.append(Line2D([], [], linestyle="", marker=marker(k), color=FAINT_INK, label=name))
    dress(axes, x, y, frame)
    axes.legend(handles=shown, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def _iso_elbo_lines(axes: Axes) -> None:
    """Draw lines of constant -(rate + distortion) within the axis limits, without changing the limits."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    diagonal = axes.transData.inverted().transform(axes.transAxes.transform(np.linspace((0, 0), (1, 1), 400)))
    rates = diagonal[:, 0]
    crossed = diagonal[:: len(rates) // (NUM_ISO_LINES + 1)][1:-1].sum(1)  # evenly spaced on the screen, on any scale
    num_decimals = -math.floor(math.log10(np.diff(crossed).min()))  # as few as keep neighbouring labels distinct
    for elbo in (-round(total, num_decimals) for total in crossed.tolist()):
        distortions = -elbo - rates
        inside = np.flatnonzero((distortions > low) & (distortions < high))
        if not len(inside):
            continue
        axes.plot(rates[inside], distortions[inside], ":", color=EDGE, linewidth=0.8, zorder=1, label="_elbo")
        words = text(elbo) if axes.texts else f"ELBO {text(elbo)}"
        place = (rates[inside[0]], distortions[inside[0]])
        look = {"textcoords": "offset points", "va": "top", "color": FAINT_INK, "fontsize": 7}
        axes.annotate(words, place, xytext=(3, -2), **look)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
