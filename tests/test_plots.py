from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from PIL import Image

from vae_sweeps import plots


def rows_of_a_run(num: int) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for i in range(1, num + 1):
        start = 1e4 if i == 1 else 0.0
        rows.append({"step": i, "train/elbo": -100.0 - start, "train/log_px": -80.0 - start, "train/kl": 20.0 + i / 10})
        if i % 10 == 0:
            rows.append({"step": i, "val/elbo": -105.0, "val/log_px": -82.0, "val/kl": 23.0})
    return rows


def test_curves_show_each_value_and_the_first_step_does_not_set_the_limits(tmp_path: Path) -> None:
    figure = plots.learning_curves(rows_of_a_run(100), "beta=1 latent=10")
    elbo, error, kl = figure.axes
    assert [len(np.asarray(line.get_xdata())) for line in elbo.lines] == [100, 10]
    assert np.asarray(error.lines[1].get_ydata()).tolist() == [82.0] * 10  # -log p(x|z)
    assert all("nats" in axes.get_title(loc="left") for axes in figure.axes)
    assert elbo.get_ylim()[0] > -110
    assert error.get_ylim()[1] < 90
    assert kl.get_yscale() == "linear"
    plots.save(figure, tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    with Image.open(tmp_path / "curves.png") as picture:
        picture.load()
        assert picture.width == 900


def test_a_collapsing_kl_is_drawn_on_a_log_scale_that_ends() -> None:
    rows = [{"step": i, "train/kl": max(30 * 0.8**i - 1e-9, 0.0)} for i in range(200)]
    _, _, kl = plots.learning_curves(rows, "beta=100").axes
    assert kl.get_yscale() == "log"
    assert 1e-4 < kl.get_ylim()[0] < 1e-3


def test_curves_stop_where_values_are_not_finite(tmp_path: Path) -> None:
    rows = rows_of_a_run(20)
    rows += [{"step": 21, "train/elbo": float("nan"), "train/log_px": float("-inf"), "train/kl": float("inf")}]
    elbo, error, kl = plots.learning_curves(rows, "diverged").axes
    assert [np.asarray(axes.lines[0].get_xdata())[-1] for axes in (elbo, error, kl)] == [20, 20, 20]
    assert elbo.get_xlim()[1] > 21


@pytest.mark.parametrize("rows", [[], rows_of_a_run(1), [{"step": 0, "val/elbo": 0.0}], [{"step": 3, "val/kl": None}]])
def test_curves_of_next_to_nothing_can_be_drawn(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    figure = plots.learning_curves(rows, "one row")
    for axes in figure.axes:
        assert all(line.get_marker() == "o" for line in axes.lines)
        assert np.isfinite(axes.get_ylim()).all()
    plots.save(figure, tmp_path / "curves.png")


def dots(figure: Figure) -> tuple[np.ndarray, list[str]]:
    """The dots [N,2] of a map and their colours [N], in the order in which they are drawn."""
    (drawn,) = (item for item in figure.axes[0].collections if isinstance(item, PathCollection))
    return np.asarray(drawn.get_offsets()), [to_hex(colour) for colour in np.asarray(drawn.get_facecolor())]


def gaussian(num: int, num_latents: int, seed: int = 0) -> np.ndarray:
    """Posterior means [N,L] of a different variance in each latent."""
    scales = np.linspace(2.0, 0.5, num_latents)
    return (np.random.default_rng(seed).standard_normal((num, num_latents)) * scales).astype(np.float32)


@pytest.mark.parametrize("num_classes", [1, 3, 10])
def test_a_map_shows_two_latents_as_they_are_and_the_legend_names_their_colours(num_classes: int) -> None:
    mu = gaussian(400, 2)
    labels = np.arange(400) * num_classes // 400 + 5  # sorted: drawn in order, the last class would lie on top
    figure = plots.latent_map(mu, labels, "title")
    axes = figure.axes[0]
    points, colours = dots(figure)
    legend = axes.get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    marks = [to_hex(mark.get_color()) for mark in legend.get_lines()]
    assert names == [str(5 + k) for k in range(num_classes)]
    assert len(set(marks)) == num_classes
    class_of = dict(zip(marks, names, strict=True))
    drawn = {(x, y, class_of[colour]) for (x, y), colour in zip(points.tolist(), colours, strict=True)}
    assert drawn == {(x, y, str(label)) for (x, y), label in zip(mu.tolist(), labels, strict=True)}
    if num_classes > 1:
        assert set(colours[:100]) == set(colours[-100:]) == set(marks)
    again, _ = dots(plots.latent_map(mu, labels, "title"))
    assert (again == points).all()
    figure.draw_without_rendering()
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_many_classes_have_a_scale_in_place_of_a_legend() -> None:
    figure = plots.latent_map(gaussian(400, 2), np.arange(400) % 47, "title")
    axes, scale = figure.axes
    assert axes.get_legend() is None
    assert scale.get_ylim() == (0, 46)
    assert len(set(dots(figure)[1])) == 47


def test_distances_in_a_map_are_true_and_nothing_is_cut_without_need() -> None:
    mu = gaussian(1000, 2) * [5.0, 0.1]
    figure = plots.latent_map(mu, None, "title")
    (axes,) = figure.axes
    figure.draw_without_rendering()
    (x0, y0), (x1, y1), (x2, y2) = axes.transData.transform([(0, 0), (1, 0), (0, 1)])
    assert (x1 - x0, y1 - y0) == pytest.approx((y2 - y0, x2 - x0))
    low, high = np.array([axes.get_xlim(), axes.get_ylim()]).T
    num_outside = ((mu < low) | (mu > high)).any(axis=1).sum()
    assert num_outside == 0
    assert "outside" not in axes.get_title(loc="left")
    assert high[0] - low[0] < 1.2 * np.ptp(mu[:, 0])


@pytest.mark.parametrize("num", [100, 5000])
@pytest.mark.parametrize("num_latents", [1, 2])
def test_outliers_do_not_squash_a_map_and_are_counted(num: int, num_latents: int) -> None:
    mu = gaussian(num, num_latents)
    width = np.ptp(mu, axis=0).max()
    mu[num // 2] = -1e4
    axes = plots.latent_map(mu, None, "title").axes[0]
    low, high = axes.get_xlim()
    assert low < np.percentile(mu[:, 0], 1.5) < np.percentile(mu[:, 0], 98.5) < high
    assert high - low < 1.5 * width
    assert "1 outside" in axes.get_title(loc="left")


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_a_map_of_many_latents_shows_the_first_principal_components(shift: float) -> None:
    mu = gaussian(300, 7) @ np.linalg.qr(gaussian(7, 7, seed=1))[0] + shift
    figure = plots.latent_map(mu, None, "title")
    centred = mu.astype(float) - mu.astype(float).mean(axis=0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    shares = singular**2 / (singular**2).sum()
    (axes,) = figure.axes
    for label, share in zip((axes.get_xlabel(), axes.get_ylabel()), shares, strict=False):
        assert f"{100 * share:.1f}%" in label
    drawn, _ = dots(figure)
    expected = centred @ directions[:2].T
    for i in range(2):  # a component's sign is free
        assert np.sort(np.abs(drawn[:, i])) == pytest.approx(np.sort(np.abs(expected[:, i])), abs=1e-3)


def test_the_histograms_of_a_single_latent_stand_where_its_means_are() -> None:
    labels = np.arange(300) % 3
    mu = 4.0 * labels[:, None] + 0.1 * gaussian(300, 1)
    (axes,) = plots.latent_map(mu, labels, "title").axes
    rows = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
    assert len(rows) == 3
    for k, row in enumerate(rows):
        heights, edges, baseline = row.get_data()
        filled = np.flatnonzero(heights > baseline)
        values = mu[labels == k]
        bin_width = edges[1] - edges[0]
        assert edges[filled[0]] <= values.min() < edges[filled[0]] + bin_width
        assert edges[filled[-1]] <= values.max() <= edges[filled[-1]] + bin_width
        assert (np.min(heights), np.max(heights)) == pytest.approx((k, k + 0.9))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("num_latents", [1, 2, 10])
@pytest.mark.parametrize(("num", "value"), [(0, 0.1), (1, 0.1), (2, 0.1), (50, 0.1), (50, float("nan"))])
def test_a_map_of_a_collapsed_or_broken_model_can_be_drawn(
    tmp_path: Path, num: int, value: float, num_latents: int
) -> None:
    mu = np.full((num, num_latents), value, np.float32)
    figure = plots.latent_map(mu, np.arange(num) % 10, "title")
    plots.save(figure, tmp_path / "map.png")
    axes = figure.axes[0]
    assert np.isfinite([axes.get_xlim(), axes.get_ylim()]).all()
    assert ("not finite" in axes.get_title(loc="left")) == (num > 0 and not np.isfinite(value))


def test_rows_that_are_not_finite_are_left_out_with_their_labels() -> None:
    mu, labels = gaussian(100, 2), np.arange(100) % 2
    mu[0, 1], mu[1, 0], mu[3] = np.nan, np.inf, np.nan
    figure = plots.latent_map(mu, labels, "title")
    finite = np.isfinite(mu).all(axis=1)
    points, colours = dots(figure)
    assert sorted(points.tolist()) == sorted(mu[finite].tolist())
    by_class = {tuple(points[np.array(colours) == colour].mean(axis=0).round(4)) for colour in set(colours)}
    assert by_class == {tuple(mu[finite & (labels == k)].astype(float).mean(axis=0).round(4)) for k in (0, 1)}
    assert "3 not finite" in figure.axes[0].get_title(loc="left")


def bars(figure: Figure) -> list[float]:
    return [patch.get_height() for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize("num_latents", [1, 2, 10, 128, 512])
def test_bars_are_the_latents_kl_sorted(tmp_path: Path, num_latents: int) -> None:
    kl = np.random.default_rng(0).uniform(0.5, 4.0, num_latents).astype(np.float32)
    kl[: num_latents // 2] = 0.009
    figure = plots.kl_bars(kl, "title")
    (axes,) = figure.axes
    assert bars(figure) == sorted(kl.tolist(), reverse=True)
    num_used = num_latents - num_latents // 2
    assert f"{num_used} of {num_latents} latents" in axes.get_title(loc="left")
    assert f"{kl.astype(float).sum():.4g} in total" in axes.get_title(loc="left")
    plots.save(figure, tmp_path / "kl.png")
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    if num_latents <= 10:
        assert [kl[int(tick)] for tick in ticks] == sorted(kl, reverse=True)


@pytest.mark.parametrize(("smallest", "scale"), [(0.05, "linear"), (0.02, "log"), (1e-9, "log"), (0.0, "linear")])
def test_bars_are_on_a_log_scale_only_where_they_span_much(smallest: float, scale: str) -> None:
    (axes,) = plots.kl_bars(np.array([smallest, 4.0, 3.0]), "title").axes
    low, high = axes.get_ylim()
    assert axes.get_yscale() == scale
    assert high > 4.0
    assert low == 0.0 if scale == "linear" else 5e-4 < low < max(smallest, 1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("kl", "drawn"),
    [
        ([0.0, 0.0], [0.0, 0.0]),
        ([-1e-9, 2e-4, 0.0], [2e-4, 0.0, -1e-9]),
        ([1.0, float("nan"), 2.0, float("inf")], [2.0, 1.0]),
        ([float("nan")], []),
    ],
)
def test_bars_of_a_collapsed_or_broken_model_can_be_drawn(tmp_path: Path, kl: list[float], drawn: list[float]) -> None:
    figure = plots.kl_bars(np.array(kl), "title")
    plots.save(figure, tmp_path / "kl.png")
    assert bars(figure) == drawn
    assert ("not finite" in figure.axes[0].get_title(loc="left")) == (len(drawn) < len(kl))
