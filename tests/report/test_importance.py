"""What the report says of swept keys and of searches."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import make_options, make_point
from tests.helpers.written_sweep import ELBO, done
from vae_sweeps.report import contents, curves, grid, importance
from vae_sweeps.runs.run_folder import STOPPED, RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder


def frame(rng: np.random.Generator, n: int = 60) -> pd.DataFrame:
    """Points whose metric depends on `latent` only, except for a little noise."""
    latent = rng.integers(1, 4, n)
    noise = rng.standard_normal(n)
    return pd.DataFrame(
        {"latent": latent, "beta": rng.choice([0.1, 1.0, 4.0], n), "lr": rng.random(n), "exact": 10.0 * latent,
         "noisy": 10.0 * latent + noise, "noise": noise}
    )  # fmt: skip


def test_a_key_that_determines_a_metric_explains_all_of_it() -> None:
    table = frame(np.random.default_rng(0))
    assert importance.explained(table, "latent", "exact") == pytest.approx(1.0)
    explained = importance.explained(table, "latent", "noisy")
    assert explained == pytest.approx(1 - table["noise"].var() / table["noisy"].var(), abs=0.02)


@pytest.mark.parametrize("key", ["latent", "beta", "lr"])
def test_a_key_without_an_effect_explains_nothing_on_average(key: str) -> None:
    """Unlike eta squared, which would be (k-1)/(n-1), a tenth with six groups of sixty points. It is cut at 0."""
    found = [importance.explained(frame(np.random.default_rng(seed)), key, "noise") for seed in range(200)]
    assert np.mean([share for share in found if share is not None]) < 0.03


def test_nothing_is_said_of_a_key_that_no_two_points_share_or_that_does_not_vary() -> None:
    table = frame(np.random.default_rng(0), 5).assign(word=list("abcde"), same=1, exact=range(5))
    assert importance.explained(table, "word", "exact") is None
    assert importance.explained(table, "same", "exact") is None
    assert importance.explained(table.assign(exact=1.0), "latent", "exact") is None


def written(output_dir: Path, points: list[tuple[str, ...]], stopped: int = 0) -> SweepFolder:
    """A sweep of finished points, of which the first ones were stopped."""
    sweep, names = SweepFolder.under(output_dir, "grid"), []
    for k, overrides in enumerate(points):
        run = RunFolder.under(output_dir, f"run-{k:012x}")
        run.create(make_point("data=mnist5k", *overrides), make_options(), [])
        status = {"status": STOPPED, "step": 20} if k < stopped else {}
        rows = "".join(
            f'{{"step": {s}, "val/elbo": {-100 + s / 10}}}\n' for s in range(10, 21 if k < stopped else 61, 10)
        )
        run.rows.write_text(rows)
        run.write_result(done({**ELBO, "val/elbo": -90.0 - k}, **status))
        names.append(run.name)
    sweep.add(names, ["beta", "latent"])
    return sweep


GRID = [(f"beta={beta}", f"latent={latent}") for beta in (1, 2, 3) for latent in (2, 4)]


def test_importance_has_a_bar_for_each_swept_key(tmp_path: Path) -> None:
    figure = importance.importance(contents.read([written(tmp_path, GRID)]))
    assert figure is not None
    view = next(view for view in figure.views if view.name == "val/elbo")
    shares = dict(zip(view.data[0]["y"], view.data[0]["x"], strict=True))
    # The metric falls by 1 from point to point, so by 2 for each beta and by 1 for each latent size.
    assert shares["beta"] > 0.8
    assert shares["latent"] < 0.05


def test_history_is_that_of_searches_only(tmp_path: Path) -> None:
    sweep = written(tmp_path, GRID, stopped=2)
    assert importance.history(contents.read([sweep])) is None
    sweep.study.touch()
    figure = importance.history(contents.read([sweep]))
    assert figure is not None
    line, points = figure.views[0].data
    assert points["y"] == [-90.0 - k for k in range(6)]
    assert line["y"] == [-90.0] * 6
    assert "Crosses" in figure.caption


def test_curves_mark_stopped_points_and_their_rung(tmp_path: Path) -> None:
    figure = curves.learning_curves(contents.read([written(tmp_path, GRID, stopped=4)]))
    assert figure is not None
    view = next(view for view in figure.views if view.name == "val/elbo")
    ends = view.data[-1]
    assert (ends["name"], ends["x"]) == ("stopped", [20] * 4)
    assert [shape["x0"] for shape in view.layout["shapes"]] == [20]
    whole = curves.learning_curves(contents.read([written(tmp_path / "other", GRID)]))
    assert whole is not None
    assert all(trace.get("name") != "stopped" for view in whole.views for trace in view.data)


def test_samples_of_a_space_are_no_grid(tmp_path: Path) -> None:
    samples = [(f"beta={beta / 7:.5f}", f"latent={2 + beta % 3}") for beta in range(1, 20)]
    assert grid.of(contents.read([written(tmp_path, samples)])) is None
    assert grid.of(contents.read([written(tmp_path / "grid", GRID)])) is not None
