"""Colours mean the same in all figures, axes show what is possible, and an outlier does not flatten the others."""

import numpy as np
import pytest

from tests.helpers import report_runs
from vae_sweeps.report import contents, curves, figures, heat_map, parallel_coordinates, scatter
from vae_sweeps.report.figures import Figure
from vae_sweeps.report.grid import of


def of_sweep(tmp_path, **more) -> contents.Contents:
    return contents.read([report_runs.make_sweep(tmp_path, num_seeds=1, **more)])


def made(figure: Figure | None) -> Figure:
    assert figure is not None
    return figure


def test_the_scale_leaves_out_values_far_from_the_quartiles() -> None:
    near = np.array([1.0, 2.0, 3.0, 4.0, 5.0])  # quartiles 2 and 4: up to 6 beyond them is near
    assert figures.clip({"x": near, "y": np.array([*near, 10.0])}) == {}
    assert figures.clip({"x": np.array([*near, 100.0, np.nan]), "y": near}) == {"x": [1.0, 5.0]}


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0, 9.0], [np.nan]])
def test_without_a_spread_nothing_is_an_outlier(values) -> None:
    assert figures.clip({"x": np.array(values)}) == {}


def test_a_value_has_one_colour_in_all_figures(tmp_path) -> None:
    sweep = report_runs.make_sweep(tmp_path, betas=(0, 0.1, 1), num_seeds=1)
    for run in sweep.runs()[:2]:
        run.result.unlink()  # so that beta = 0 is in the curves only
    content = contents.read([sweep])
    expected = figures.palette(content)
    assert list(expected) == ["0", "0.1", "1"]
    dots = {
        trace["name"].removeprefix("beta="): trace["marker"]["color"]
        for trace in made(scatter.rate_distortion(content)).views[0].data
        if trace.get("customdata")
    }
    assert dots == {name: expected[name] for name in ("0.1", "1")}
    lines = [trace for trace in made(curves.learning_curves(content)).views[0].data if trace.get("meta")]
    assert {trace["name"].split()[0]: trace["line"]["color"] for trace in lines} == expected
    line = made(parallel_coordinates.parallel(content)).views[0].data[0]["line"]
    scale = dict(line["colorscale"])
    assert {scale[index / line["cmax"]] for index in line["color"]} == {expected["0.1"], expected["1"]}


def test_each_line_is_named_if_they_are_few_and_dashes_tell_the_second_key(tmp_path) -> None:
    figure = made(curves.learning_curves(of_sweep(tmp_path)))
    lines = [trace for trace in figure.views[0].data if trace.get("meta")]
    assert [trace["name"] for trace in lines] == ["0 2", "0 4", "1 2", "1 4"]
    assert [trace["line"]["dash"] for trace in lines] == ["solid", "dash"] * 2
    assert "latent=2 (solid), 4 (dashed)" in figure.caption


def test_steps_have_their_epochs_and_hours(tmp_path) -> None:
    content = of_sweep(tmp_path)
    clocks = curves.clocks(content)
    assert list(clocks) == list(content.groups)
    for clock in clocks.values():
        steps, epochs, hours = (np.array(clock[name], float) for name in ("steps", "epochs", "hours"))
        np.testing.assert_allclose(epochs, steps / report_runs.STEPS_PER_EPOCH)
        np.testing.assert_allclose(hours, steps * report_runs.STEP_S / 3600)


def test_the_clock_is_that_of_the_seed_that_has_come_furthest(tmp_path) -> None:
    sweep = report_runs.make_sweep(tmp_path, betas=(1,), latents=(2,))
    first = sweep.runs()[0]
    first.result.unlink()
    first.rows.unlink()  # it failed before its first row
    content = contents.read([sweep])
    assert made(curves.learning_curves(content)).views
    assert {run: clock["steps"][-1] for run, clock in curves.clocks(content).items()} == {
        first.name: report_runs.NUM_STEPS
    }


def test_the_texts_of_the_table_are_those_of_the_palettes(tmp_path) -> None:
    content = contents.read([report_runs.make_sweep(tmp_path, betas=(0, 0.001, 0.5, 100), num_seeds=1)])
    for key, colours in figures.palettes(content).items():
        assert set(figures.texts(content.means, key)) == {name for name, _ in colours}


def test_captions_speak_of_keys_that_vary_only(tmp_path) -> None:
    with_beta, without = of_sweep(tmp_path / "a"), of_sweep(tmp_path / "b", betas=(1,))
    assert "differ only in beta" in made(scatter.rate_distortion(with_beta)).caption
    assert "differ only in beta" not in made(scatter.rate_distortion(without)).caption


def test_axes_do_not_go_below_what_is_possible(tmp_path) -> None:
    content = of_sweep(tmp_path)
    for view in made(scatter.fid(content)).views:
        assert view.layout["yaxis"]["rangemode"] == "nonnegative"
    axes = made(parallel_coordinates.parallel(content)).views[0].data[0]["dimensions"]
    assert all(axis["range"][0] >= 0 for axis in axes if axis["label"] in ("test/kl", "test/active_units"))
    assert made(scatter.rate_distortion(content)).views[0].layout["yaxis"].get("rangemode") is None  # of densities


def test_slices_of_a_heat_map_share_one_scale(tmp_path) -> None:
    runs = []
    for index, lr in enumerate(("0.001", "0.01")):
        for beta in (0, 1):
            for latent in (2, 4):
                runs.append(report_runs.make_run(tmp_path, beta, latent, 0, f"optim.lr={lr}", *["epochs=2"] * index))
                runs[-1].write_result(report_runs.result(beta + index, latent, 0))
    content = contents.read([report_runs.sweep_of(tmp_path, "lr", runs, ["beta", "latent", "optim.lr"])])
    places = of(content)
    assert places is not None
    views = [view for view in made(heat_map.heat_map(content, places)).views if view.name == "test/elbo"]
    elbo = content.means["test/elbo"]
    assert len(views) > 1
    assert {(view.data[0]["zmin"], view.data[0]["zmax"]) for view in views} == {(elbo.min(), elbo.max())}
