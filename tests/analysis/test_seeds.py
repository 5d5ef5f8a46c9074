"""Averages over seeds: results computed by hand, and properties that hold for any numbers."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import make_point
from vae_sweeps.analysis import seeds, table
from vae_sweeps.config.point import to_container


def point(
    *overrides: str, status: str = "done", metrics: Mapping[str, float] | None = None, **more: float | bool | None
) -> table.Record:
    """A point with these metrics (`test_elbo` is test/elbo); its run's name contains all arguments."""
    named = {name.replace("_", "/", 1): value for name, value in {**(metrics or {}), **more}.items()}
    content = to_container(make_point("data=mnist5k", *overrides))
    about = {"status": status, "step": 7, "num_params": 1000, "metrics": named}
    name = "-".join(["run", *overrides, status, *map(str, named.values())])
    result = about if status in ("done", "diverged") else None
    return table.Record(name, table._flat(content), status, result)


def table_of(*records: table.Record) -> pd.DataFrame:
    return table.table_of(records, ["beta", "seed"])


# Two betas of three seeds, in the order of a sweep whose last key is beta.
GRID = [
    point("seed=0", "beta=0", test_elbo=-10.0, test_collapsed=True),
    point("seed=0", "beta=1", test_elbo=-4.0, test_collapsed=False),
    point("seed=1", "beta=0", test_elbo=-13.0, test_collapsed=False),
    point("seed=1", "beta=1", test_elbo=-4.0, test_collapsed=False),
    point("seed=2", "beta=0", test_elbo=-19.0, test_collapsed=False),
    point("seed=2", "beta=1", status="diverged"),
]


def evaluated(record: table.Record, **settings: Any) -> table.Record:
    """The point with a bound that was made with these settings."""
    assert record.result is not None
    return replace(record, result={**record.result, "evaluated": {"likelihood": {"seed": 0, **settings}}})


def test_numbers_that_were_made_differently_are_not_averaged() -> None:
    short = evaluated(point("seed=0", test_iwae=-5.0), iwae_samples=10)
    long = evaluated(point("seed=1", test_iwae=-3.0), iwae_samples=1000)
    frame = table_of(short, long)
    assert table.setting_columns(frame) == ["evaluated.likelihood.iwae_samples"]  # the seed is the same
    with pytest.raises(
        ValueError,
        match=r"^evaluated.likelihood.iwae_samples: must be equal in points that are averaged, not 10 and 1000; use "
        r"`vae-sweeps evaluate SWEEP evaluation.iwae_samples=1000`, which makes it equal$",
    ):
        seeds.over(frame)


def test_groups_that_were_made_differently_are_averaged_each_and_show_how() -> None:
    points = [
        evaluated(point(f"seed={seed}", f"beta={beta}", test_iwae=-float(seed)), num_images=num_images)
        for beta, num_images in ((0, None), (1, 300))
        for seed in (0, 2)
    ]
    found = seeds.over(table_of(*points, point("seed=3", "beta=1")))  # the last has no such part
    assert list(found["evaluated.likelihood.num_images"]) == ["null", 300]
    assert list(found["test/iwae"]) == [-1, -1]


def test_means_and_standard_errors_computed_by_hand() -> None:
    found = seeds.over(table_of(*GRID))
    assert list(found["beta"]) == [0, 1]
    assert "seed" not in found
    assert (list(found["n"]), list(found["num_missing"])) == ([3, 2], [0, 1])
    # The mean of -10, -13, -19 is -14, the squared deviations are 16 + 1 + 25, and the variance is 42 / 2.
    assert list(found["test/elbo"]) == [-14, -4]
    assert list(found["test/elbo/se"]) == [pytest.approx(np.sqrt(21 / 3), rel=1e-14), 0]
    # A share p of n has the standard error sqrt(p (1 - p) / (n - 1)).
    assert list(found["test/collapsed"]) == [pytest.approx(1 / 3), 0]
    assert list(found["test/collapsed/se"]) == [pytest.approx(np.sqrt(2 / 9 / 2)), 0]
    assert list(found["num_params/se"]) == [0, 0]
    assert not {"run", "run_id", "status", "git_commit"} & set(found)
    assert list(found.columns[:7]) == ["data", "arch", "likelihood", "beta", "latent", "n", "num_missing"]


@pytest.mark.parametrize("status", ["diverged", "failed", "running", "preempted", "pending"])
def test_points_without_numbers_are_counted_and_do_not_change_the_means(status: str) -> None:
    finished = [point("seed=0", test_elbo=-1.0), point("seed=1", test_elbo=-3.0)]
    other = point("seed=2", status=status, test_elbo=-1000.0)  # a diverged point may have metrics
    without, found = seeds.over(table_of(*finished)), seeds.over(table_of(other, *finished))
    assert (list(found["n"]), list(found["num_missing"])) == ([2], [1])
    pd.testing.assert_frame_equal(found.drop(columns="num_missing"), without.drop(columns="num_missing"))


def test_one_point_has_no_standard_error_and_zero_points_have_no_mean() -> None:
    found = seeds.over(table_of(point("beta=1", test_elbo=-1.0), point("beta=2", status="failed")))
    assert (list(found["n"]), list(found["num_missing"])) == ([1, 0], [0, 1])
    assert found["test/elbo"].to_list() == [-1, pytest.approx(np.nan, nan_ok=True)]
    assert list(found["test/elbo/se"].isna()) == [True, True]


def test_a_metric_that_some_points_lack_has_its_own_count() -> None:
    found = seeds.over(
        table_of(
            point("beta=0", "seed=0", test_elbo=-1.0, test_iwae=-2.0),
            point("beta=0", "seed=1", test_elbo=-3.0, test_iwae=None),
            point("beta=0", "seed=2", test_elbo=-5.0, test_iwae=-6.0),
            point("beta=1", "seed=0", test_elbo=-1.0, test_iwae=-7.0),
        )
    )
    assert (list(found["n"]), list(found["test/iwae/n"])) == ([3, 1], [2, 1])
    assert list(found["test/iwae"]) == [-4, -7]
    assert found["test/iwae/se"].to_list() == [pytest.approx(2), pytest.approx(np.nan, nan_ok=True)]  # |a - b| / 2
    assert [name for name in found if str(name).endswith("/n")] == ["test/iwae/n"]


def random_table(num_seeds: int = 5) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = [(beta, seed) for seed in range(num_seeds) for beta in (0, 0.5, 1)]
    return table_of(*(point(f"beta={b}", f"seed={s}", test_elbo=generator.normal(b, 1)) for b, s in rows))


def test_order_of_points_changes_the_order_of_rows_and_nothing_else() -> None:
    points = random_table()
    shuffled = points.sample(frac=1, random_state=2)
    found, other = seeds.over(points), seeds.over(shuffled)
    assert list(other["beta"]) == list(dict.fromkeys(shuffled["beta"])) == [1, 0.5, 0]
    assert list(found["beta"]) == [0, 0.5, 1]
    pd.testing.assert_frame_equal(other.sort_values("beta", ignore_index=True), found, rtol=1e-14)


def test_shifting_and_scaling_a_metric() -> None:
    """Under x -> a x + b the mean changes in the same way, and its standard error is multiplied by |a|."""
    points = random_table()
    found = seeds.over(points)
    moved = seeds.over(points.assign(**{"test/elbo": -3 * points["test/elbo"] + 7}))
    np.testing.assert_allclose(moved["test/elbo"], -3 * found["test/elbo"] + 7)
    np.testing.assert_allclose(moved["test/elbo/se"], 3 * found["test/elbo/se"])


def test_the_standard_error_is_the_spread_of_means() -> None:
    """400 groups of 4 draws from N(0, 1): se^2 has mean 1/4 (to 4 %), and the group means have variance 1/4 (7 %)."""
    draws = np.random.default_rng(0).normal(size=(400, 4))
    one = table_of(point("beta=1", "seed=0", test_elbo=0.0))
    points = one.loc[one.index.repeat(draws.size)].assign(
        run=[f"run{k}" for k in range(draws.size)],
        beta=np.repeat(np.arange(400.0), 4),
        seed=np.tile(np.arange(4), 400),
        **{"test/elbo": draws.ravel()},
    )
    found = seeds.over(points)
    assert len(found) == 400
    assert np.square(found["test/elbo/se"].to_numpy()).mean() == pytest.approx(1 / 4, rel=0.16)
    assert found["test/elbo"].to_numpy().var(ddof=1) == pytest.approx(1 / 4, rel=0.28)


def test_a_mean_over_two_keys_is_no_mean_of_means() -> None:
    points = table_of(*(point(f"beta={b}", f"seed={s}", test_elbo=e) for b, s, e in [(0, 0, 0), (0, 1, 6), (1, 0, 9)]))
    found = seeds.over(points, ("seed", "beta"))
    assert (found["n"].item(), found["test/elbo"].item()) == (3, 5)
    with pytest.raises(ValueError, match="beta: cannot be averaged over in a table of averages; name all keys at once"):
        seeds.over(seeds.over(points), ("beta",))


def test_all_keys_at_once() -> None:
    found = seeds.over(table_of(*GRID), ["seed", "beta", "latent", "data", "arch", "likelihood"])
    assert (found["n"].to_list(), found["num_missing"].to_list()) == ([5], [1])
    assert found["test/elbo"].to_list() == [-10]


def test_keys_that_change_with_the_seed_separate_points() -> None:
    points = table_of(point("seed=0", "epochs=1", test_elbo=0.0), point("seed=1", "epochs=2", test_elbo=2.0))
    assert list(seeds.over(points)["n"]) == [1, 1]
    assert list(seeds.over(points, ("seed", "epochs"))["n"]) == [2]


@pytest.mark.parametrize(
    ("groups", "column"),
    [
        (["optim.clip_norm=null", "optim.clip_norm=5"], "optim.clip_norm"),
        (["epochs=null steps=10", "epochs=1"], "epochs"),
        (["likelihood=gaussian likelihood.sigma=learned", "likelihood=gaussian likelihood.sigma=0.5"], None),
        (["arch=mlp", "arch=conv arch.kernel=3", "arch=conv arch.kernel=4"], "arch.kernel"),
        (["arch=mlp", "arch=conv arch.batch_norm=true", "arch=conv arch.batch_norm=false"], "arch.batch_norm"),
        (["likelihood=bernoulli", *(f"likelihood=gaussian likelihood.sigma={s}" for s in (0.1, "optimal"))], None),
        (["arch.hidden=[]", "arch.hidden=[10,10]"], None),
    ],
)
def test_missing_values_words_and_lists_separate_points(groups: list[str], column: str | None) -> None:
    """So do keys that only one architecture has, and null, which is a value like any other."""
    points = [point(*group.split(), f"seed={seed}", test_elbo=k) for seed in (0, 1) for k, group in enumerate(groups)]
    found = seeds.over(table_of(*points))
    assert list(found["n"]) == [2] * len(groups)
    assert list(found["test/elbo"]) == list(range(len(groups)))
    assert column is None or list(found[column].isna()).count(True) == 1


def test_a_run_that_appears_twice_is_one_point() -> None:
    points = table_of(*GRID)
    twice = pd.concat([points, points])
    pd.testing.assert_frame_equal(seeds.over(twice), seeds.over(points))


def test_a_table_without_rows() -> None:
    found = seeds.over(table_of(*GRID).iloc[:0])
    assert found.empty
    assert {"beta", "n", "num_missing", "test/elbo", "test/elbo/se"} <= set(found)


@pytest.mark.parametrize(
    ("make", "keys", "line"),
    [
        (
            lambda: table_of(*GRID),
            "sed",
            "sed: must be a column of the config to average over; did you mean seed? known: ",
        ),
        (lambda: table_of(*GRID), ["seed", "status"], "status: must be a column of the config"),
        (lambda: table_of(*GRID), ["test/elbo"], "test/elbo: must be a column of the config"),
        (
            lambda: table_of(*GRID).drop(columns="beta"),  # as if two data sets had the same name
            "seed",
            "run-seed=0-beta=0-done--10.0-True and 5 more: must differ in a column of the table",
        ),
    ],
)
def test_bad_keys_and_tables_are_refused(make: Callable[[], pd.DataFrame], keys: Any, line: str) -> None:
    with pytest.raises(ValueError, match=r"^\S+") as raised:
        seeds.over(make(), keys)
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)
