from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from vae_sweeps.analysis import run_plots
from vae_sweeps.analysis.style import save


def rows_of_a_run(num: int) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for i in range(1, num + 1):
        start = 1e4 if i == 1 else 0.0
        rows.append({"step": i, "train/elbo": -100.0 - start, "train/log_px": -80.0 - start, "train/kl": 20.0 + i / 10})
        if i % 10 == 0:
            rows.append({"step": i, "val/elbo": -105.0, "val/log_px": -82.0, "val/kl": 23.0})
    return rows


def test_curves_show_each_value_and_the_first_step_does_not_set_the_limits(tmp_path: Path) -> None:
    figure = run_plots.learning_curves(rows_of_a_run(100), "beta=1 latent=10")
    elbo, error, kl = figure.axes
    assert [len(np.asarray(line.get_xdata())) for line in elbo.lines] == [100, 10]
    assert np.asarray(error.lines[1].get_ydata()).tolist() == [82.0] * 10  # -log p(x|z)
    assert all("nats" in axes.get_title(loc="left") for axes in figure.axes)
    assert elbo.get_ylim()[0] > -110
    assert error.get_ylim()[1] < 90
    assert kl.get_yscale() == "linear"
    save(figure, tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    with Image.open(tmp_path / "curves.png") as picture:
        picture.load()
        assert picture.width == 900


def test_a_collapsing_kl_is_drawn_on_a_log_scale_that_ends() -> None:
    rows = [{"step": i, "train/kl": max(30 * 0.8**i - 1e-9, 0.0)} for i in range(200)]
    _, _, kl = run_plots.learning_curves(rows, "beta=100").axes
    assert kl.get_yscale() == "log"
    assert 1e-4 < kl.get_ylim()[0] < 1e-3


def test_curves_stop_where_values_are_not_finite(tmp_path: Path) -> None:
    rows = rows_of_a_run(20)
    rows += [{"step": 21, "train/elbo": float("nan"), "train/log_px": float("-inf"), "train/kl": float("inf")}]
    elbo, error, kl = run_plots.learning_curves(rows, "diverged").axes
    assert [np.asarray(axes.lines[0].get_xdata())[-1] for axes in (elbo, error, kl)] == [20, 20, 20]
    assert elbo.get_xlim()[1] > 21


def test_logarithmic_axes_show_all_rows() -> None:
    rows = [{"step": 2**i, "train/elbo": -600.0 / 2**i, "train/log_px": 5.0 - i} for i in range(11)]
    elbo, error, kl = run_plots.learning_curves(rows, "powers of two", is_log=True).axes
    assert np.asarray(elbo.lines[0].get_ydata()).tolist() == [600.0 / 2**i for i in range(11)]
    assert (elbo.get_xscale(), elbo.get_yscale()) == ("log", "log")
    assert elbo.get_ylim()[1] > 600
    assert elbo.get_xlim()[0] < 1 < 1024 < elbo.get_xlim()[1]
    assert error.get_yscale() == "linear"  # a density above 1: -log p(x|z) is negative
    assert not kl.lines


@pytest.mark.parametrize("rows", [[], rows_of_a_run(1), [{"step": 0, "val/elbo": 0.0}], [{"step": 3, "val/kl": None}]])
def test_curves_with_very_few_values_can_be_drawn(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    figure = run_plots.learning_curves(rows, "one row")
    for axes in figure.axes:
        assert all(line.get_marker() == "o" for line in axes.lines)
        assert np.isfinite(axes.get_ylim()).all()
    save(figure, tmp_path / "curves.png")


def bars(figure: Figure) -> list[float]:
    return [patch.get_height() for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize("num_latents", [1, 2, 10, 128, 512])
def test_bars_are_the_latents_kl_sorted(tmp_path: Path, num_latents: int) -> None:
    kl = np.random.default_rng(0).uniform(0.5, 4.0, num_latents).astype(np.float32)
    kl[: num_latents // 2] = 0.009
    figure = run_plots.kl_bars(kl, "title")
    (axes,) = figure.axes
    assert bars(figure) == sorted(kl.tolist(), reverse=True)
    num_used = num_latents - num_latents // 2
    assert f"{num_used} of {num_latents} latents" in axes.get_title(loc="left")
    assert f"{kl.astype(float).sum():.4g} in total" in axes.get_title(loc="left")
    save(figure, tmp_path / "kl.png")
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    if num_latents <= 10:
        assert [kl[int(tick)] for tick in ticks] == sorted(kl, reverse=True)


@pytest.mark.parametrize("smallest", [0.05, 1e-9, 0.0])
def test_bars_are_as_long_as_their_latents_kl(smallest: float) -> None:
    (axes,) = run_plots.kl_bars(np.array([smallest, 4.0, 3.0]), "title").axes
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "linear"
    assert low == 0.0
    assert high > 4.0


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
    figure = run_plots.kl_bars(np.array(kl), "title")
    save(figure, tmp_path / "kl.png")
    assert bars(figure) == drawn
    assert ("not finite" in figure.axes[0].get_title(loc="left")) == (len(drawn) < len(kl))
