"""Which columns of a results table are shown, and in which order."""

import numpy as np
import pandas as pd
import pytest

from tests.analysis.test_seeds import GRID, point, table_of
from vae_sweeps.analysis import columns, seeds


def test_a_prefix_selects_all_its_columns() -> None:
    frame = seeds.over(table_of(*GRID))
    assert list(columns.chosen(frame, ["test/elbo", "beta"])) == ["test/elbo", "test/elbo/se", "beta"]
    assert list(columns.chosen(frame, ["n", "test/elbo/se", "test/elbo"])) == ["n", "test/elbo/se", "test/elbo"]
    assert set(columns.chosen(frame, ["test"])) == {name for name in frame if str(name).startswith("test/")}
    assert set(columns.chosen(frame, ["test"])) >= {"test/elbo", "test/elbo/se", "test/iwae_se"}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("elbo", "elbo: no such column; did you mean test/elbo or train/elbo or val/elbo? known: arch, beta, "),
        ("tst", "tst: no such column; known: "),
        ("", ": no such column; "),
        ("laten", "laten: no such column; did you mean latent? known: "),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name: str, line: str) -> None:
    frame = table_of(*GRID)
    for refuse in (lambda: columns.chosen(frame, ["beta", name]), lambda: columns.sorted_by(frame, f"-{name}")):
        with pytest.raises(ValueError, match="no such column") as raised:
            refuse()
        assert str(raised.value).startswith(line)
        assert "\n" not in str(raised.value)


def test_rows_are_sorted_with_missing_values_last_and_equal_ones_in_their_order() -> None:
    frame = table_of(*GRID)
    assert columns.sorted_by(frame, "test/elbo").index.to_list() == [4, 2, 0, 1, 3, 5]
    assert columns.sorted_by(frame, "-test/elbo").index.to_list() == [1, 3, 0, 2, 4, 5]
    assert columns.sorted_by(frame, "beta").index.to_list() == [0, 2, 4, 1, 3, 5]
    pd.testing.assert_frame_equal(columns.sorted_by(frame, "-seed").sort_index(), frame)


def test_numbers_come_before_words() -> None:
    sigmas = ("learned", 2, 0.5, "optimal", 10)
    frame = table_of(*(point("likelihood=gaussian", f"likelihood.sigma={s}") for s in sigmas))
    assert columns.sorted_by(frame, "likelihood.sigma")["likelihood.sigma"].to_list() == [
        0.5, 2, 10, "learned", "optimal"
    ]  # fmt: skip


def test_swept_keys_come_first_and_constant_columns_are_left_out() -> None:
    points = [point(f"optim.lr={lr}", f"seed={s}", test_elbo=lr, test_kl=s) for lr in (0.1, 0.2) for s in (0, 1)]
    frame = table_of(*points).assign(**{"fid/random/floor": 0.5})
    order = columns.by_interest(frame, ["optim.lr", "seed"])
    assert order[:4] == ["optim.lr", "seed", "test/elbo", "test/kl"]
    assert not {"beta", "data", "arch", "status", "step", "fid/random/floor", "run", "test/iwae"} & set(order)
    assert {"beta", "data", "arch"} <= set(columns.the_same(frame))
    assert "fid/random/floor" in columns.shown(frame)


def test_the_status_is_shown_unless_all_points_are_done() -> None:
    assert "status" in columns.by_interest(table_of(*GRID), ["beta"])
    assert "status" not in columns.by_interest(table_of(*GRID[:5]), ["beta"])
    assert columns.by_interest(seeds.over(table_of(*GRID)), ["beta", "seed"])[:4] == [
        "beta", "n", "num_missing", "test/elbo"
    ]  # fmt: skip
    assert "num_missing" not in columns.by_interest(seeds.over(table_of(*GRID[:5])), ["beta"])


def test_a_single_point_is_shown_with_all_columns() -> None:
    order = columns.by_interest(table_of(GRID[0]))
    assert order[:3] == ["beta", "latent", "test/elbo"]
    assert {"data", "arch", "step"} <= set(order)


def test_beta_in_nats_and_sigma_are_shown_if_they_differ_from_the_config() -> None:
    frame = table_of(*GRID)
    assert "beta_nats" not in columns.by_interest(frame.assign(beta_nats=[*frame["beta"][:5], np.nan]))
    assert "beta_nats" in columns.by_interest(frame.assign(beta_nats=frame["beta"] / 784))[:5]
    gaussian = table_of(*(point("likelihood=gaussian", f"likelihood.sigma={s}") for s in (1, 0.5)))
    assert "sigma" not in columns.by_interest(gaussian.assign(sigma=[1.0, 0.5]))
    learned = table_of(*(point("likelihood=gaussian", f"likelihood.sigma={s}") for s in (1, "learned")))
    assert "sigma" in columns.by_interest(learned.assign(sigma=[1.0, 0.31]))
