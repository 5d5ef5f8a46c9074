"""Plots of a table show the table's numbers, with the right scales and labels."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from vae_sweeps.analysis import marks, sweep_plots
from vae_sweeps.analysis.marks import label, score_column
from vae_sweeps.analysis.seeds import over

BETAS, LATENTS, SEEDS = (0.0, 0.01, 1.0), (2, 10, 100), (0, 1, 2)


def make_table() -> pd.DataFrame:
    """Random numbers for every beta, latent size and seed, in shuffled order."""
    points = list(product(BETAS, LATENTS, SEEDS))
    draw = np.random.default_rng(0)
    table = pd.DataFrame(draw.permutation(np.array(points)), columns=["beta", "latent", "seed"])
    table[["latent", "seed"]] = table[["latent", "seed"]].astype(int)
    table["run"], table["run_id"], table["status"] = [str(k) for k in range(len(points))], "", "done"
    table["data"], table["arch"], table["likelihood"] = "mnist5k", "mlp", "bernoulli"
    for metric in ("kl", "log_px", "elbo"):
        table[f"test/{metric}"] = draw.uniform(1, 40, len(points)) * (1 if metric == "kl" else -1)
    table["test/active_units"] = np.minimum(table["latent"], 7).astype(float)
    for samples in ("prior", "mixture", "floor"):
        table[f"fid/random/{samples}"] = draw.uniform(1, 9, len(points)) if samples != "floor" else 0.5
        for name, floor in (("precision", 0.75), ("recall", 0.5)):
            values = draw.uniform(0, 1, len(points)) if samples != "floor" else floor
            table[f"prdc/random/{name}/{samples}"] = values
    return table


TABLE = make_table()
OF_TEN = TABLE.loc[TABLE["latent"] == 10]


@pytest.fixture
def axes() -> Iterator[Axes]:
    """Axes that are rendered at the end of the test."""
    figure = Figure(layout="constrained")
    axes = figure.add_subplot()
    yield axes
    figure.draw_without_rendering()


def marks_of(axes: Axes) -> list[tuple[np.ndarray, np.ndarray]]:
    """The points [N,2] of each group of marks, and the half lengths [N] of their bars along y."""
    found = []
    for drawn in axes.containers:
        assert isinstance(drawn, ErrorbarContainer)
        line, _, bars = drawn
        points = np.column_stack([np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)])
        segments = np.array(bars[-1].get_segments())
        found.append((points, np.ptp(segments[:, :, 1], axis=1) / 2))
    return found


def means_of(*columns: str, by: Sequence[str] = ("latent", "beta")) -> np.ndarray:
    """The means [N,C] of each of the N groups, in order."""
    return TABLE.pivot_table(index=list(by), values=list(columns))[list(columns)].to_numpy()


def test_marks_are_the_means_over_seeds_with_bars_of_one_standard_error(axes: Axes) -> None:
    assert sweep_plots.against(axes, TABLE, "beta", "test/kl", by="latent") is axes
    groups = marks_of(axes)
    assert len(groups) == len(LATENTS)
    for latent, (points, bars) in zip(LATENTS, groups, strict=True):
        kl = [np.asarray(TABLE.loc[(TABLE["latent"] == latent) & (TABLE["beta"] == beta), "test/kl"]) for beta in BETAS]
        assert points[:, 0].tolist() == list(BETAS)
        assert points[:, 1] == pytest.approx([np.mean(values) for values in kl])
        assert bars == pytest.approx([np.std(values, ddof=1) / np.sqrt(len(SEEDS)) for values in kl])
    legend = axes.get_legend()
    assert legend is not None
    assert [words.get_text() for words in legend.get_texts()] == ["2", "10", "100"]
    assert legend.get_title().get_text() == "latent size L"


def test_axes_are_labelled_with_units(axes: Axes) -> None:
    sweep_plots.against(axes, TABLE, "beta", "test/elbo", by="latent")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("β", "test ELBO (nats per image)")
    assert label("fid/classifier/prior") == "FID of prior samples (classifier features)"
    assert label("something/else") == "something/else"


def test_betas_are_on_a_log_axis_with_zero_on_its_left(axes: Axes) -> None:
    sweep_plots.against(axes, TABLE, "beta", "test/kl", by="latent")
    zero, smallest, largest = axes.transData.transform([(beta, 1) for beta in BETAS])[:, 0]
    left, right = axes.transAxes.transform([(0, 0), (1, 0)])[:, 0]
    assert left < zero < smallest < largest < right
    assert smallest - zero == pytest.approx((largest - smallest) / 2)  # one decade, where 0.01 to 1 are two
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "0.01", "1"]


def test_positive_betas_have_an_ordinary_log_axis(axes: Axes) -> None:
    sweep_plots.against(axes, TABLE.loc[TABLE["beta"] > 0], "beta", "test/kl", by="latent")
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize("change", ["unfinished", "nan"])
def test_points_without_numbers_are_left_out(axes: Axes, change: str) -> None:
    table = TABLE.copy()
    table.loc[table["beta"] == 0, "status" if change == "unfinished" else "test/kl"] = (
        "running" if change == "unfinished" else np.nan
    )
    sweep_plots.against(axes, table, "beta", "test/kl", by="latent")
    assert [points[:, 0].tolist() for points, _ in marks_of(axes)] == [list(BETAS[1:])] * len(LATENTS)


def test_a_varying_key_that_no_axis_shows_is_refused(axes: Axes) -> None:
    with pytest.raises(ValueError, match=r"^latent: must have one value at beta=[01.]*; choose one"):
        sweep_plots.against(axes, TABLE, "beta", "test/kl")
    sweep_plots.against(axes, over(TABLE, ["seed", "latent"]), "beta", "test/kl")
    ((points, _),) = marks_of(axes)
    assert points[:, 1] == pytest.approx(means_of("test/kl", by=["beta"])[:, 0])


@pytest.mark.parametrize("column", ["test/iwae", "test/kl"])
def test_a_table_without_the_numbers_is_refused(axes: Axes, column: str) -> None:
    with pytest.raises(ValueError, match=f"^{column}: (must be a column|must have numbers)"):
        sweep_plots.against(axes, TABLE.assign(status="running"), "beta", column, by="latent")


def test_no_mark_is_above_the_diagonal_of_active_units(axes: Axes) -> None:
    sweep_plots.active_units(axes, TABLE)
    (diagonal,) = (line for line in axes.lines if line.get_label() == "_diagonal")
    assert np.asarray(diagonal.get_xydata()).tolist() == [[2, 2], [100, 100]]
    for points, _ in marks_of(axes):
        assert points.tolist() == [[2, 2], [10, 7], [100, 7]]
    low, high = axes.get_ylim()
    assert low < 0 < 100 < high


def test_heat_map_cells_are_means_and_missing_cells_are_dashes(axes: Axes) -> None:
    table = TABLE.loc[(TABLE["beta"] > 0) | (TABLE["latent"] < 100)]
    sweep_plots.heat_map(axes, table, "test/elbo")
    (image,) = (item for item in axes.get_children() if isinstance(item, AxesImage))
    cells = np.ma.asarray(image.get_array())
    means = table.pivot_table(index="beta", columns="latent", values="test/elbo")
    assert cells.filled(np.nan) == pytest.approx(means.to_numpy(), nan_ok=True)
    assert np.ma.getmaskarray(cells).sum() == 1
    words = {tuple(map(round, text.get_position())): text.get_text() for text in axes.texts}
    assert words[2, 0] == "–"
    assert float(words[1, 2].replace("−", "-")) == pytest.approx(means.loc[1.0, 10], abs=0.005)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["0", "0.01", "1"]
    (_, scale) = axes.figure.axes
    assert scale.get_ylabel() == "test ELBO (nats per image)"


@pytest.mark.parametrize(("factor", "shift"), [(1.0, 0.0), (100.0, 0.0), (0.01, 5000.0)])
def test_iso_elbo_lines_have_constant_elbo_on_any_scale(axes: Axes, factor: float, shift: float) -> None:
    kl, log_px = TABLE["test/kl"] * factor, TABLE["test/log_px"] * min(factor, 1) - shift
    table = TABLE.assign(**{"test/kl": kl, "test/log_px": log_px})
    sweep_plots.rate_distortion(axes, table, by="latent")
    lines = [np.asarray(line.get_xydata()) for line in axes.lines if line.get_label() == "_elbo"]
    assert len(lines) >= 4
    elbos = [-line.sum(axis=1) for line in lines]
    for elbo in elbos:
        assert elbo == pytest.approx(elbo[0])
    words = [float(text.get_text().removeprefix("ELBO ").replace("−", "-")) for text in axes.texts]
    assert words == pytest.approx([elbo[0] for elbo in elbos])


def test_each_mean_is_drawn_in_the_colour_of_its_beta(axes: Axes) -> None:
    sweep_plots.rate_distortion(axes, TABLE, by="latent")
    means = means_of("test/kl", "test/log_px") * [1, -1]
    drawn = [points[0].tolist() for points, _ in marks_of(axes)]
    assert np.array(drawn) == pytest.approx(means)
    legend = axes.get_legend()
    assert legend is not None
    handles = [handle.get_color() for handle in legend.get_lines()]
    colours = [to_rgba(drawn[0].get_color()) for drawn in axes.containers]
    assert colours == [to_rgba(colour) for colour in handles[: len(BETAS)]] * len(LATENTS)
    assert [text.get_text() for text in legend.get_texts()][:4] == ["β = 0", "β = 0.01", "β = 1", "latent size L = 2"]
    assert "nats" in axes.get_xlabel()
    assert "nats" in axes.get_ylabel()


def test_fid_is_plotted_over_the_reconstruction_error_with_its_floor(axes: Axes) -> None:
    sweep_plots.score_against_distortion(axes, TABLE, by="latent", samples="mixture")
    means = means_of("test/log_px", "fid/random/mixture") * [-1, 1]
    assert np.array([points[0] for points, _ in marks_of(axes)]) == pytest.approx(means)
    (floor,) = (line for line in axes.lines if line.get_label() == "_floor")
    assert set(np.asarray(floor.get_ydata())) == {0.5}
    assert axes.get_ylabel() == "FID of mixture samples (random features)"


def test_precision_is_plotted_over_recall_with_the_floor_of_both(axes: Axes) -> None:
    sweep_plots.precision_recall(axes, TABLE, by="latent", samples="mixture")
    means = means_of("prdc/random/recall/mixture", "prdc/random/precision/mixture")
    assert np.array([points[0] for points, _ in marks_of(axes)]) == pytest.approx(means)
    (floor,) = (line for line in axes.lines if line.get_label() == "_floor")
    assert (np.asarray(floor.get_xdata()).tolist(), np.asarray(floor.get_ydata()).tolist()) == ([0.5], [0.75])
    assert axes.get_xlabel() == "recall of mixture samples (random features)"
    assert axes.get_ylabel() == "precision of mixture samples (random features)"


def line_of(axes: Axes, name: str) -> np.ndarray:
    """The points [N,2] of the line with this label."""
    (line,) = (line for line in axes.lines if line.get_label() == name)
    return np.column_stack([np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)])


def test_each_seed_has_a_dot_beside_the_mean_and_its_band(axes: Axes) -> None:
    failed = OF_TEN.iloc[[0]].assign(run="failed", seed=3, status="failed")
    sweep_plots.seeds_against(axes, pd.concat([OF_TEN, failed]), "beta", "test/kl")
    numbers = OF_TEN[["beta", "test/kl"]].to_numpy(float)
    assert sorted(line_of(axes, sweep_plots.SEEDS).tolist()) == sorted(numbers.tolist())
    (band,) = axes.collections
    edges = np.asarray(band.get_paths()[0].vertices)
    for beta, mean in line_of(axes, "_mean"):
        of_seeds = numbers[numbers[:, 0] == beta, 1]
        error = of_seeds.std(ddof=1) / len(SEEDS) ** 0.5
        at_beta = edges[edges[:, 0] == beta, 1]
        assert [mean, at_beta.min(), at_beta.max()] == pytest.approx(of_seeds.mean() + error * np.array([0, -1, 1]))
    assert line_of(axes, "_mean")[:, 0].tolist() == list(BETAS)


def test_seeds_and_their_means_are_over_the_reconstruction_error(axes: Axes) -> None:
    sweep_plots.seeds_against_distortion(axes, OF_TEN, "test/kl")
    dots = [line for line in axes.lines if line.get_label() == sweep_plots.SEEDS]
    for beta, line, (mark, _) in zip(BETAS, dots, marks_of(axes), strict=True):
        numbers = OF_TEN.loc[OF_TEN["beta"] == beta, ["test/log_px", "test/kl"]].to_numpy(float) * [-1, 1]
        drawn = np.column_stack([np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)])
        assert drawn == pytest.approx(numbers)
        assert mark[0] == pytest.approx(numbers.mean(0))
    assert axes.get_xlabel() == "test distortion −log p(x|z) (nats per image)"


def test_single_seeds_cannot_be_plotted_from_averages(axes: Axes) -> None:
    averages = over(OF_TEN)
    words = "^this table holds averages; plot single seeds from a table with a row for each point$"
    with pytest.raises(ValueError, match=words):
        sweep_plots.seeds_against(axes, averages, "beta", "test/kl")
    with pytest.raises(ValueError, match=words):
        sweep_plots.seeds_against_distortion(axes, averages, "test/kl")


def test_a_score_of_no_or_several_features_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^kid of prior: must be in the table; .*evaluation\.kid=true"):
        score_column(TABLE, "kid", "prior")
    with pytest.raises(ValueError, match=r"^prdc/density of prior: must be in the table; .*evaluation\.prdc=true"):
        score_column(TABLE, "prdc/density", "prior")
    two = TABLE.assign(**{"fid/classifier/prior": 1.0})
    with pytest.raises(
        ValueError, match=r"^fid of prior: must be one column, not fid/random/prior, fid/classifier/prior; keep"
    ):
        score_column(two, "fid", "prior")


def test_numbers_are_coloured_from_dark_to_light_and_words_distinctly(axes: Axes) -> None:
    sweep_plots.against(axes, TABLE, "latent", "test/kl", by="beta")
    brightness = [np.dot(to_rgba(drawn[0].get_color())[:3], (0.299, 0.587, 0.114)) for drawn in axes.containers]
    assert brightness == sorted(brightness)
    named = TABLE.assign(
        **{"likelihood.sigma": [{0.0: 0.1, 0.01: "learned", 1.0: "optimal"}[beta] for beta in TABLE["beta"]]}
    )
    other = Figure().add_subplot()
    sweep_plots.against(other, over(named, ["seed", "beta"]), "latent", "test/kl", by="likelihood.sigma")
    assert len({drawn[0].get_color() for drawn in other.containers}) == 3


def test_zero_is_formatted_without_a_sign() -> None:
    assert [marks.text(value) for value in (-0.0, 0.0, -0.5)] == ["0", "0", "−0.5"]
