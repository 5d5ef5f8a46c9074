"""The report of many points, with the threshold lowered: the table of all, and pictures and curves of the best."""

import json

import numpy as np
import pytest

from tests.helpers import report_runs
from tests.report.test_report import report
from vae_sweeps.report import contents, curves
from vae_sweeps.report.rows import NO_ROWS, Curve, read_rows
from vae_sweeps.runs.known_results import KnownResults
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.some_rows import some_rows


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MANY", 7)
    monkeypatch.setattr(contents, "NUM_BEST", 2)


@pytest.mark.usefixtures("few_are_many")
def test_the_best_have_pictures_and_the_page_says_where_the_others_are(tmp_path) -> None:
    sweep = report_runs.make_sweep(tmp_path)
    content, page = contents.read([sweep]), report(sweep)
    means = content.means.sort_values("val/elbo", ascending=False)
    assert content.best == list(means["run"][:2])
    assert list(page.points) == content.best
    assert all(point["images"] and point["curves"] for point in page.points.values())
    assert page.data["tables"]["points"]["runs"] == list(content.table["run"])
    assert "The pictures of every point are in its folder" in page.text
    assert page.data["runs_folder"] == str(tmp_path / "runs")


@pytest.mark.usefixtures("few_are_many")
def test_the_curves_are_those_of_the_best_and_the_spread_of_all(tmp_path) -> None:
    content = contents.read([report_runs.make_sweep(tmp_path)])
    figure = curves.learning_curves(content)
    assert figure is not None
    data = next(view.data for view in figure.views if view.name == "val/elbo")
    assert [trace["meta"] for trace in data if "meta" in trace and trace["mode"] != "none"] == content.best
    median = next(trace for trace in data if trace.get("name") == "all points")
    ends = [
        np.mean([content.runs[run].rows.curves["val/elbo"].values[-1] for run in g]) for g in content.groups.values()
    ]
    assert median["y"][-1] == pytest.approx(np.median(ends), rel=1e-5)


@pytest.mark.usefixtures("few_are_many")
def test_curves_are_read_of_the_best_and_of_a_sample_that_stands_for_all(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(contents, "NUM_SPREAD", 2)
    sweep = report_runs.make_sweep(tmp_path)
    content = contents.read([sweep])
    assert 0 < len(content.spread) <= len(content.groups) * 2 / len(content.runs)
    wanted = {run for first in {*content.spread, *content.best} for run in content.groups[first]}
    assert {name for name, run in content.runs.items() if run.rows.curves} == wanted
    assert len(wanted) < len(content.runs)
    assert contents.read([sweep]).spread == content.spread  # the same sample each time
    figure = curves.learning_curves(content)
    assert figure is not None
    assert f"the median of {len(content.spread)} curves, chosen at random" in figure.caption


def test_of_a_long_run_some_rows_are_read(tmp_path) -> None:
    run = RunFolder(tmp_path)
    rows = [
        {"step": n, "train/elbo": float(n)} | ({"val/elbo": -float(n)} if n % 10 == 0 else {}) for n in range(1, 1001)
    ]
    run.rows.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 1001, "tra')
    assert list(some_rows(run, 1000)) == rows
    kept = read_rows(run, 50).curves
    for curve in kept.values():
        assert np.array_equal(np.abs(curve.values), curve.steps)
    assert len(kept["val/elbo"].steps) <= 51
    assert len(kept["train/elbo"].steps) <= 102
    assert (kept["val/elbo"].steps[0], kept["val/elbo"].steps[-1]) == (10, 1000)
    assert (kept["train/elbo"].steps[0], kept["train/elbo"].steps[-1]) == (1, 1000)
    assert read_rows(RunFolder(tmp_path / "none"), 50).curves == NO_ROWS.curves


def test_the_mean_over_seeds_leaves_out_steps_that_were_read_of_one_alone() -> None:
    """One run has been read at each fourth step, and the other, which is shorter, at each second."""
    long = Curve(np.array([0, 4, 8]), np.array([0.0, 4.0, 8.0]))
    short = Curve(np.array([0, 2, 4]), np.array([2.0, 100.0, 6.0]))
    mean = curves.mean_and_se([long, short])
    assert mean.steps.tolist() == [0, 4, 8]
    assert mean.mean.tolist() == [1, 5, 8]
    assert mean.se[:2].tolist() == [1, 1]


def test_a_result_is_read_once_until_it_is_forgotten(tmp_path) -> None:
    (run,) = report_runs.make_sweep(tmp_path, betas=(0,), latents=(2,), num_seeds=1).runs()
    results = KnownResults()
    first = results.of(run)
    run.write_result({"status": "diverged"})
    assert results.of(run) is first
    results.forget([run])
    assert results.of(run) == {"status": "diverged"}
