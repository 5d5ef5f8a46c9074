"""The report's figures hold the table's numbers."""

from itertools import product

import numpy as np
import pytest

from tests.helpers import report_runs
from vae_sweeps.report import contents, curves, figures, heat_map, parallel_coordinates, point_figures, scatter
from vae_sweeps.report.grid import of
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    return report_runs.make_sweep(tmp_path_factory.mktemp("out"))


def test_a_heat_map_holds_the_mean_of_each_cell_for_every_metric(sweep) -> None:
    content = contents.read([sweep])
    places = of(content)
    assert places is not None
    figure = heat_map.heat_map(content, places)
    assert figure is not None
    views = {view.name: view.data[0] for view in figure.views}
    assert figure.views[0].name == "test/elbo"
    assert {"test/kl", "fid/classifier/prior", "time_s", "test/active_units"} <= set(views)
    for name in ("test/elbo", "test/kl", "fid/classifier/prior"):
        expected = [
            [np.mean([report_runs.metrics(beta, latent, seed)[name] for seed in (0, 1)]) for latent in (2, 4)]
            for beta in (0, 1)
        ]
        np.testing.assert_allclose(np.array(views[name]["z"], float), expected, rtol=1e-5)
    assert (views["test/elbo"]["y"], views["test/elbo"]["x"]) == (["0", "1"], ["2", "4"])
    titles = {view.name: view.layout["title"]["text"] for view in figure.views}
    assert titles["test/elbo"] == "test/elbo (nats per image), higher is better"
    assert titles["fid/classifier/prior"] == "fid/classifier/prior, lower is better"
    assert titles["test/kl"] == "test/kl (nats per image)"


def test_each_value_of_a_third_key_has_its_own_grid(tmp_path) -> None:
    runs = []
    for lr in (0.001, 0.01):
        for beta in (0, 1):
            for latent in (2, 4):
                more = [] if lr == 0.001 else [f"optim.lr={lr}"]
                runs.append(report_runs.make_run(tmp_path, beta, latent, 0, *more))
                runs[-1].write_result(report_runs.result(beta, latent, 0))
    sweep = report_runs.sweep_of(tmp_path, "lr", runs, ["beta", "latent", "optim.lr"])
    content = contents.read([sweep])
    grid = of(content)
    assert grid is not None
    assert (grid.down, grid.across, list(grid.slices)) == ("beta", "latent", ["optim.lr=0.001", "optim.lr=0.01"])
    assert all(len(cells) == 4 for cells in grid.slices.values())
    figure = heat_map.heat_map(content, grid)
    assert figure is not None
    assert {view.group for view in figure.views} == set(grid.slices)


def test_along_an_iso_line_rate_and_distortion_sum_to_minus_its_elbo(sweep) -> None:
    figure = scatter.rate_distortion(contents.read([sweep]))
    assert figure is not None
    for view in figure.views:
        lines = [trace for trace in view.data if trace["mode"] == "lines+text"]
        assert lines
        for line in lines:
            elbo = float(line["text"][0].replace(",", ""))
            np.testing.assert_allclose(np.array(line["x"]) + np.array(line["y"]), -elbo, rtol=1e-4)


@pytest.mark.parametrize("spread", [0.3, 40.0, 2e5])
def test_the_labels_of_iso_lines_are_their_values(spread: float) -> None:
    levels = scatter._levels(-101 + spread * np.linspace(-1, 0, 9))
    for level in {*levels[0], *levels[1]}:
        x = np.linspace(0, 10, 20)
        (line,) = scatter._iso_elbo(level, x, -level - 10, -level)
        assert float(line["text"][0].replace(",", "")) == pytest.approx(level, rel=1e-9)


def test_points_are_at_their_mean_rate_and_distortion(sweep) -> None:
    content = contents.read([sweep])
    figure = scatter.rate_distortion(content)
    assert figure is not None
    markers = [trace for trace in figure.views[0].data if "markers" in trace["mode"]]
    assert [trace["name"] for trace in markers] == ["beta=0", "beta=1"]
    found = {run: (x, y) for t in markers for run, x, y in zip(t["customdata"], t["x"], t["y"], strict=True)}
    for row in content.means.to_dict("records"):
        np.testing.assert_allclose(found[row["run"]], (row["test/kl"], -row["test/log_px"]), rtol=1e-5)
    assert len({trace["marker"]["color"] for trace in markers}) == 2


def test_seeds_are_a_mean_line_and_a_band_of_one_standard_error(sweep) -> None:
    figure = curves.learning_curves(contents.read([sweep]))
    assert figure is not None
    view = next(view for view in figure.views if view.name == "val/elbo")
    bands, lines = view.data[::2], view.data[1::2]
    assert (len(bands), len(lines)) == (4, 4)
    for band, line in zip(bands, lines, strict=True):
        num = len(line["x"])
        high, low = np.array(band["y"][:num]), np.array(band["y"][num:][::-1])
        np.testing.assert_allclose((high + low) / 2, line["y"], rtol=1e-5)
        # At every step seed 1 is 2.5 nats below seed 0: 1.5 from the final value, and 1 from the curve.
        np.testing.assert_allclose((high - low) / 2, 1.25, rtol=1e-3)
    first = [report_runs.rows(0, 2, seed) for seed in (0, 1)]
    expected = {
        row["step"]: (row["val/elbo"] + other["val/elbo"]) / 2
        for row, other in zip(*first, strict=True)
        if "val/elbo" in row
    }
    np.testing.assert_allclose(lines[0]["y"], list(expected.values()), rtol=1e-5)
    assert lines[0]["x"] == list(expected)


def test_precision_is_plotted_against_recall_and_density_against_coverage(sweep) -> None:
    figure = scatter.precision_recall(contents.read([sweep]))
    assert figure is not None
    assert [view.name for view in figure.views] == [
        f"prdc/classifier/{name}/prior" for name in ("precision", "density")
    ]
    for view, (up, across) in zip(figure.views, (("precision", "recall"), ("density", "coverage")), strict=True):
        cross, *points = [trace for trace in view.data if trace["mode"] != "lines"]
        assert (cross["x"], cross["y"]) == ([report_runs.FLOOR[across]], [report_runs.FLOOR[up]])
        drawn = sorted((x, y) for trace in points for x, y in zip(trace["x"], trace["y"], strict=True))
        every = [report_runs.metrics(beta, latent, 0) for beta in (0, 1) for latent in (2, 4)]
        expected = sorted((m[f"prdc/classifier/{across}/prior"], m[f"prdc/classifier/{up}/prior"]) for m in every)
        np.testing.assert_allclose(drawn, expected, rtol=1e-5)
        assert view.layout["xaxis"]["title"]["text"] == f"prdc/classifier/{across}/prior"
        assert view.layout["yaxis"]["title"]["text"] == f"prdc/classifier/{up}/prior"


def test_metrics_of_disentanglement_are_plotted_against_each_measure_of_the_reconstruction(sweep) -> None:
    figure = scatter.factors(contents.read([sweep]))
    assert figure is not None
    names, errors = ("factors/mig", "factors/dci_disentanglement"), (("test/log_px", -1), ("test/psnr", 1))
    assert [view.name for view in figure.views] == [*names, *names]
    for view, ((error, sign), name) in zip(figure.views, product(errors, names), strict=True):
        assert error in view.group
        points = [trace for trace in view.data if trace["mode"] != "lines"]
        drawn = sorted((x, y) for trace in points for x, y in zip(trace["x"], trace["y"], strict=True))
        cells = product((0, 1), (2, 4))
        of_seeds = [[report_runs.metrics(beta, latent, seed) for seed in (0, 1)] for beta, latent in cells]
        expected = sorted((sign * np.mean([m[error] for m in ms]), np.mean([m[name] for m in ms])) for ms in of_seeds)
        np.testing.assert_allclose(drawn, expected, rtol=1e-5)


def test_data_without_factors_have_no_plot_of_them(tmp_path) -> None:
    run = report_runs.make_run(tmp_path, 1, 2)
    found = report_runs.metrics(1, 2, 0)
    kept = {name: value for name, value in found.items() if not name.startswith("factors/")}
    run.write_result(report_runs.result(1, 2, 0, metrics=kept))
    assert scatter.factors(contents.read([report_runs.sweep_of(tmp_path, "bare", [run], [])])) is None


def test_long_curves_are_thinned_and_keep_their_ends(tmp_path) -> None:
    sweep = report_runs.make_sweep(tmp_path, betas=(0,), latents=(2,), num_seeds=1)
    (run,) = sweep.runs()
    run.rows.unlink()
    for step in range(1, 5001):
        files.append_line(run.rows, {"step": step, "num_steps": 5000, "train/elbo": -100.0 - 1 / step})
    content = contents.read([sweep])
    (line,) = point_figures.curves(content.runs[run.name], 1)
    assert len(line["x"]) <= 200
    assert (line["x"][0], line["x"][-1]) == (1, 5000)


def test_parallel_coordinates_have_an_axis_for_each_key_and_number(sweep) -> None:
    figure = parallel_coordinates.parallel(contents.read([sweep]))
    assert figure is not None
    dimensions = {axis["label"]: axis for axis in figure.views[0].data[0]["dimensions"]}
    assert list(dimensions)[:2] == ["beta", "latent"]
    assert {"test/kl", "test/elbo", "fid/classifier/prior"} <= set(dimensions)
    for axis in dimensions.values():
        assert len(axis["values"]) == 4
        assert all(axis["range"][0] <= value <= axis["range"][1] for value in axis["values"])


def test_colours_are_visible_on_light_and_dark_backgrounds() -> None:
    def luminance(colour: str) -> float:  # WCAG 2
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    for colour in figures.colours([str(i) for i in range(12)]).values():
        for paper in ("#ffffff", "#14171b"):
            low, high = sorted([luminance(colour), luminance(paper)])
            assert (high + 0.05) / (low + 0.05) > 2.7
