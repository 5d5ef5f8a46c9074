from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from vae_sweeps.analysis.latent_map import latent_map
from vae_sweeps.analysis.style import save


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
    figure = latent_map(mu, labels, "title")
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
    again, _ = dots(latent_map(mu, labels, "title"))
    assert (again == points).all()
    figure.draw_without_rendering()
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_many_classes_have_a_colour_bar_instead_of_a_legend() -> None:
    figure = latent_map(gaussian(400, 2), np.arange(400) % 47, "title")
    axes, scale = figure.axes
    assert axes.get_legend() is None
    assert scale.get_ylim() == (0, 46)
    assert len(set(dots(figure)[1])) == 47


def test_axes_have_equal_scales_and_contain_all_points_without_outliers() -> None:
    mu = gaussian(1000, 2) * [5.0, 0.1]
    figure = latent_map(mu, None, "title")
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
    axes = latent_map(mu, None, "title").axes[0]
    low, high = axes.get_xlim()
    assert low < np.percentile(mu[:, 0], 1.5) < np.percentile(mu[:, 0], 98.5) < high
    assert high - low < 1.5 * width
    assert "1 outside" in axes.get_title(loc="left")


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_a_map_of_many_latents_shows_the_first_principal_components(shift: float) -> None:
    mu = gaussian(300, 7) @ np.linalg.qr(gaussian(7, 7, seed=1))[0] + shift
    figure = latent_map(mu, None, "title")
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


def test_the_histograms_of_a_single_latent_match_its_means() -> None:
    labels = np.arange(300) % 3
    mu = 4.0 * labels[:, None] + 0.1 * gaussian(300, 1)
    (axes,) = latent_map(mu, labels, "title").axes
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
    figure = latent_map(mu, np.arange(num) % 10, "title")
    save(figure, tmp_path / "map.png")
    axes = figure.axes[0]
    assert np.isfinite([axes.get_xlim(), axes.get_ylim()]).all()
    assert ("not finite" in axes.get_title(loc="left")) == (num > 0 and not np.isfinite(value))


def test_rows_that_are_not_finite_are_left_out_with_their_labels() -> None:
    mu, labels = gaussian(100, 2), np.arange(100) % 2
    mu[0, 1], mu[1, 0], mu[3] = np.nan, np.inf, np.nan
    figure = latent_map(mu, labels, "title")
    finite = np.isfinite(mu).all(axis=1)
    points, colours = dots(figure)
    assert sorted(points.tolist()) == sorted(mu[finite].tolist())
    by_class = {tuple(points[np.array(colours) == colour].mean(axis=0).round(4)) for colour in set(colours)}
    assert by_class == {tuple(mu[finite & (labels == k)].astype(float).mean(axis=0).round(4)) for k in (0, 1)}
    assert "3 not finite" in figure.axes[0].get_title(loc="left")
