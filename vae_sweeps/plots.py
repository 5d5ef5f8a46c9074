"""Figures of one run, with matplotlib's Figure objects: no pyplot, so no state and no screen."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from sklearn.decomposition import PCA

from vae_sweeps.store import write_whole

# Okabe & Ito (2008): told apart by colour-blind readers, and here by line and marker too.
_COLOURS = {"train": "#0072B2", "val": "#D55E00"}
# All eight of Okabe & Ito, one of Tol's and a grey.
_CLASS_COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000", "#882255", "#999999",
)  # fmt: skip
_MANY_CLASSES = colormaps["viridis"]
_UNUSED = "#999999"
_INK, _FAINT_INK, _RULE, _EDGE = "#222222", "#666666", "#dddddd", "#888888"
_START = 0.1  # the part of the steps that does not decide the y-limits
_FEW_POINTS = 30
_TITLE_CHARACTERS_PER_INCH = 11
_LOG_RATIO = 100.0  # a KL that spans more than this is drawn on a log scale
_NO_KL_NATS = 1e-3  # a log scale ends here: below, the posterior is the prior
_USED_NATS = 0.01
_FEW_BARS = 6
_MANY_TICKS = 20  # more labels would touch
_FEW_MEANS = 20  # too few to call any an outlier
_LEAST_SPAN = 0.02  # means that vary less are as good as constant: mu of 0.01 is a KL of 5e-5 nats
_NUM_BINS = 60


def learning_curves(rows: pd.DataFrame | Sequence[Mapping[str, Any]], title: str) -> Figure:
    """ELBO, and its terms -log p(x|z) and KL, by step, in nats per image; 900 px wide.

    `rows` are those of metrics.jsonl: `step` and some of {train,val}/{elbo,log_px,kl}. What is missing or not
    finite is left out. The y-limits are those of the curves after the first tenth of the steps.
    """
    frame = pd.DataFrame(rows)
    figure = _figure(9.0, 4.2, title)
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


def _figure(width: float, height: float, title: str) -> Figure:
    """Of `width` and `height` in inches."""
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    figure.suptitle(textwrap.fill(title, int(_TITLE_CHARACTERS_PER_INCH * width)), color=_INK, fontsize=12)
    return figure


def _style(axes: Axes, label: str) -> None:
    axes.set_title(label, loc="left", fontsize=10, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_EDGE)
    axes.tick_params(color=_EDGE, labelcolor=_INK, labelsize=9)
    axes.grid(color=_RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def _say(axes: Axes, text: str) -> None:
    """`text` in the place of values."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=_FAINT_INK)
    axes.set_yticks([])


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
    _style(axes, label)
    if not curves:
        _say(axes, "no values yet")
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


def latent_map(mu: np.ndarray, labels: np.ndarray | None, title: str) -> Figure:
    """Posterior means mu [N,L] as dots, coloured by class where there are integer labels [N]; 780 px wide.

    For L > 2 they are projected on their first two principal components; for L = 1 each class has a histogram.
    Rows that are not finite are left out, and a few far from all others lie outside: the title counts both.
    """
    finite = np.isfinite(mu).all(axis=1)
    mu, labels = np.asarray(mu[finite], float), None if labels is None else labels[finite]
    figure = _figure(7.8, 6.8 if mu.shape[1] > 1 else 5.0, title)
    axes = figure.add_subplot()
    notes = [f"posterior means ({len(mu):,} images)"]
    if len(mu):
        points, names = _plane(mu)
        low, high = _view(points)
        num_outside = int(((points < low) | (points > high)).any(axis=1).sum())
        notes += [f"{num_outside:,} outside the picture"] if num_outside else []
        axes.set_xlim(low[0], high[0])
        axes.set_xlabel(names[0], color=_INK)
        if len(names) == 1:
            _histograms(axes, points[:, 0], labels)
        else:
            axes.set_ylim(low[1], high[1])
            axes.set_ylabel(names[1], color=_INK)
            axes.set_aspect("equal")
            _dots(figure, axes, points, labels)
    else:
        _say(axes, "no finite values")
        axes.set_xticks([])
    notes += [f"{(~finite).sum():,} not finite"] if not finite.all() else []
    _style(axes, ", ".join(notes))
    return figure


def _plane(mu: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """mu [N,L] -> points [N,P] with P of at most 2, and the names of the P axes."""
    if mu.shape[1] <= 2:
        return mu, [f"μ of latent {i}" for i in range(mu.shape[1])]
    points, shares = np.zeros((len(mu), 2)), np.zeros(2)
    centred = mu - np.median(mu, axis=0)  # not the mean: the median of equal numbers is that number exactly
    if centred.any():
        pca = PCA(2, svd_solver="covariance_eigh")
        points, shares = pca.fit_transform(centred), pca.explained_variance_ratio_
    return points, [f"principal component {i} of μ ({share:.1%} of its variance)" for i, share in enumerate(shares, 1)]


def _view(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Limits low [P] and high [P], of one span, that hold all points [N,P] but a few far from all others."""
    low, high = points.min(axis=0), points.max(axis=0)
    if len(points) >= _FEW_MEANS:
        inner_low = np.percentile(points, 0.5, axis=0, method="higher")
        inner_high = np.percentile(points, 99.5, axis=0, method="lower")
        far = 0.3 * (inner_high - inner_low)
        low, high = np.maximum(low, inner_low - far), np.minimum(high, inner_high + far)
    middle = (low + high) / 2
    half = max(0.53 * (high - low).max(), _LEAST_SPAN / 2)
    return middle - half, middle + half


def _classes(labels: np.ndarray | None, num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The classes [K] in order, their colours [K] and, of each of `num` points, its class's place in them."""
    if labels is None:
        return np.zeros(1, int), np.array([_CLASS_COLOURS[0]]), np.zeros(num, int)
    classes, which = np.unique(labels, return_inverse=True)
    if len(classes) <= len(_CLASS_COLOURS):
        return classes, np.array(_CLASS_COLOURS[: len(classes)]), which
    shades = _MANY_CLASSES(Normalize(classes[0], classes[-1])(classes))
    return classes, np.array([to_hex(shade) for shade in shades]), which


def _dots(figure: Figure, axes: Axes, points: np.ndarray, labels: np.ndarray | None) -> None:
    """Points [N,2] and, beside them, what their colours mean."""
    classes, colours, which = _classes(labels, len(points))
    order = np.random.default_rng(0).permutation(len(points))  # so that no class always lies on top
    size = np.clip(3e4 / len(points), 6, 25)
    x, y = points[order].T
    axes.scatter(x, y, s=size, c=colours[which[order]].tolist(), alpha=0.6, linewidths=0, rasterized=True)
    if labels is None:
        return
    if len(classes) <= len(_CLASS_COLOURS):
        marks = [
            Line2D([], [], linestyle="", marker="o", markersize=7, color=colour, label=str(name))
            for name, colour in zip(classes, colours, strict=True)
        ]
        axes.legend(handles=marks, title="class", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    else:
        scale = ScalarMappable(Normalize(classes[0], classes[-1]), _MANY_CLASSES)
        bar = figure.colorbar(scale, ax=axes, label="class", shrink=0.6, ticks=MaxNLocator(integer=True))
        bar.ax.tick_params(color=_EDGE, labelcolor=_INK, labelsize=9)


def _histograms(axes: Axes, values: np.ndarray, labels: np.ndarray | None) -> None:
    """A row for each class of the values [N], the lowest class at the bottom, each as high as its fullest bin."""
    classes, colours, which = _classes(labels, len(values))
    low, high = axes.get_xlim()
    edges = np.linspace(low, high, _NUM_BINS + 1)
    for k, colour in enumerate(colours):
        counts, _ = np.histogram(values[which == k], edges)
        axes.stairs(k + 0.9 * counts / max(counts.max(), 1), edges, baseline=k, fill=True, color=colour)
    axes.set_ylim(0, len(classes))
    axes.set_yticks([])
    if labels is not None:
        step = -(-len(classes) // _MANY_TICKS)
        axes.set_yticks(range(0, len(classes), step), [str(name) for name in classes[::step]])
        axes.set_ylabel("class", color=_INK)


def kl_bars(kl: np.ndarray, title: str) -> Figure:
    """KL [L] of each latent in nats per image, largest first; 780 px wide. What is not finite is left out."""
    figure = _figure(7.8, 3.8, title)
    axes = figure.add_subplot()
    order = np.argsort(-kl, kind="stable")
    order = order[np.isfinite(kl[order])]
    heights = np.asarray(kl[order], float)
    notes = ["KL (nats per image)"]
    if len(heights):
        num_used = (heights > _USED_NATS).sum()
        notes += [f"{heights.sum():.4g} in total", f"{num_used} of {len(kl)} latents above {_USED_NATS}"]
    notes += [f"{len(kl) - len(heights)} not finite"] if len(heights) < len(kl) else []
    _style(axes, ", ".join(notes))
    axes.grid(visible=False, axis="x")
    if not len(heights):
        _say(axes, "no finite values")
        axes.set_xticks([])
        return figure
    ranks = np.arange(1, len(heights) + 1)
    colours = np.where(heights > _USED_NATS, _COLOURS["train"], _UNUSED)
    few = len(heights) <= _MANY_TICKS
    axes.bar(ranks, heights, width=0.8 if few else 1.0, color=colours.tolist())
    positive = heights[heights > 0]
    if len(positive):
        _limit(axes, positive, may_be_log=True)
    if axes.get_yscale() == "linear":
        axes.set_ylim(0, 1.06 * heights[0] if len(positive) else 1)
    margin = max(0, _FEW_BARS - len(heights)) / 2  # one or two bars need not be as wide as the figure
    axes.set_xlim(0.5 - margin, len(heights) + 0.5 + margin)
    if few:
        axes.set_xticks(ranks, [str(i) for i in order])
        axes.set_xlabel("latent", color=_INK)
    else:
        axes.set_xlabel("rank of latent", color=_INK)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write `figure` in the format that `path`'s suffix names, whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.removeprefix("."))
    write_whole(path, content.getvalue())
