"""A plot of a run's posterior means: its latent space as a map."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vae_sweeps.analysis.style import COLOURS, EDGE, INK, SCALE, new_figure, say, style

_MANY_TICKS = 20  # more labels would touch
_FEW_MEANS = 20  # with fewer means, none is treated as an outlier
_LEAST_SPAN = 0.02  # means that vary less count as constant: mu of 0.01 is a KL of 5e-5 nats
_NUM_BINS = 60


def latent_map(mu: np.ndarray, labels: np.ndarray | None, title: str) -> Figure:
    """Plot posterior means mu [N,L] as dots, coloured by class if integer labels [N] are given; 780 px wide.

    For L > 2 the means are projected on their first two principal components; for L = 1 each class has a histogram.
    Rows that are not finite are left out, and a few extreme outliers lie outside the axes; the title counts both.
    """
    finite = np.isfinite(mu).all(axis=1)
    mu, labels = np.asarray(mu[finite], float), None if labels is None else labels[finite]
    figure = new_figure(7.8, 6.8 if mu.shape[1] > 1 else 5.0, title)
    axes = figure.add_subplot()
    notes = [f"posterior means ({len(mu):,} images)"]
    if len(mu):
        points, names = _plane(mu)
        low, high = _view(points)
        num_outside = int(((points < low) | (points > high)).any(axis=1).sum())
        notes += [f"{num_outside:,} outside the picture"] if num_outside else []
        axes.set_xlim(low[0], high[0])
        axes.set_xlabel(names[0], color=INK)
        if len(names) == 1:
            _histograms(axes, points[:, 0], labels)
        else:
            axes.set_ylim(low[1], high[1])
            axes.set_ylabel(names[1], color=INK)
            axes.set_aspect("equal")
            _dots(figure, axes, points, labels)
    else:
        say(axes, "no finite values")
        axes.set_xticks([])
    notes += [f"{(~finite).sum():,} not finite"] if not finite.all() else []
    style(axes, ", ".join(notes))
    return figure


def _plane(mu: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Project mu [N,L] to points [N,P], P at most 2; return them and the names of the P axes."""
    if mu.shape[1] <= 2:
        return mu, [f"μ of latent {i}" for i in range(mu.shape[1])]
    points, shares = np.zeros((len(mu), 2)), np.zeros(2)
    centred = mu - np.median(mu, axis=0)  # not the mean: the median of equal numbers is that number exactly
    if centred.any():
        from sklearn.decomposition import PCA  # takes a second to import

        pca = PCA(2, svd_solver="covariance_eigh")
        points, shares = pca.fit_transform(centred), pca.explained_variance_ratio_
    return points, [f"principal component {i} of μ ({share:.1%} of its variance)" for i, share in enumerate(shares, 1)]


def _view(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axis limits low [P] and high [P], equally wide on each axis, that contain all points [N,P] except outliers."""
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
    """The sorted classes [K], their colours [K], and the index into these for each of the `num` points."""
    if labels is None:
        return np.zeros(1, int), np.array([COLOURS[0]]), np.zeros(num, int)
    classes, which = np.unique(labels, return_inverse=True)
    if len(classes) <= len(COLOURS):
        return classes, np.array(COLOURS[: len(classes)]), which
    shades = SCALE(Normalize(classes[0], classes[-1])(classes))
    return classes, np.array([to_hex(shade) for shade in shades]), which


def _dots(figure: Figure, axes: Axes, points: np.ndarray, labels: np.ndarray | None) -> None:
    """Draw points [N,2], with a legend or a colour bar for the classes."""
    classes, colours, which = _classes(labels, len(points))
    order = np.random.default_rng(0).permutation(len(points))  # random, so that no class covers the others
    size = np.clip(3e4 / len(points), 6, 25)
    x, y = points[order].T
    axes.scatter(x, y, s=size, c=colours[which[order]].tolist(), alpha=0.6, linewidths=0, rasterized=True)
    if labels is None:
        return
    if len(classes) <= len(COLOURS):
        marks = [
            Line2D([], [], linestyle="", marker="o", markersize=7, color=colour, label=str(name))
            for name, colour in zip(classes, colours, strict=True)
        ]
        axes.legend(handles=marks, title="class", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    else:
        scale = ScalarMappable(Normalize(classes[0], classes[-1]), SCALE)
        bar = figure.colorbar(scale, ax=axes, label="class", shrink=0.6, ticks=MaxNLocator(integer=True))
        bar.ax.tick_params(color=EDGE, labelcolor=INK, labelsize=9)


def _histograms(axes: Axes, values: np.ndarray, labels: np.ndarray | None) -> None:
    """Draw a histogram of the values [N] per class, the lowest class at the bottom, each scaled to its fullest bin."""
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
        axes.set_ylabel("class", color=INK)
