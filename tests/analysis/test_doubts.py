"""Stars after numbers that are not to be relied on, in the terminal's table and in the report's."""

import io

import pandas as pd
import pytest
from rich.console import Console

from vae_sweeps.analysis import doubts, terminal
from vae_sweeps.analysis.seeds import over
from vae_sweeps.report import figures


@pytest.fixture
def frame() -> pd.DataFrame:
    """Four points: the first two have I near ln N, and the second and third have dominated weights."""
    columns = {
        "run": [f"run-{k}" for k in range(4)],
        "status": "done",
        "seed": [0, 1, 0, 1],
        "beta": [0.0, 0.0, 1.0, 1.0],
        "latent": 10,
        "test/elbo": [-278.06, -277.0, -150.0, -151.0],
        "test/iwae": [-274.56, -274.0, -140.0, -141.0],
        "test/iwae_dominated": [0.1, 0.5, 0.3, None],
        "test/mi": [6.9, 6.8, 5.0, 5.1],
        "test/mi_at_limit": pd.array([True, True, False, None], "boolean"),
        "test/marginal_kl": [147.0, 146.0, 3.0, 4.0],
    }
    return pd.DataFrame(columns)


def test_numbers_are_in_doubt_where_their_deciding_column_exceeds_its_limit(frame) -> None:
    assert doubts.in_doubt(frame, "test/mi") == [True, True, False, False]
    assert doubts.in_doubt(frame, "test/marginal_kl") == [True, True, False, False]
    assert doubts.in_doubt(frame, "test/iwae") == [False, True, True, False]
    assert doubts.in_doubt(frame, "test/elbo") == [False] * 4
    assert doubts.in_doubt(frame.drop(columns="test/mi_at_limit"), "test/mi") == [False] * 4
    assert doubts.in_doubt(frame.assign(**{"test/mi": None}), "test/mi") == [False] * 4
    averaged = over(frame)  # shares of dominated images: 0.3, and 0.3 of one of two
    assert doubts.in_doubt(averaged, "test/mi") == [True, False]
    assert doubts.in_doubt(averaged, "test/iwae") == [True, True]


def test_marks_keep_the_columns_of_digits(frame) -> None:
    assert figures.texts(frame, "test/iwae") == ["-274.56 ", "-274.00*", "-140.00*", "-141.00 "]
    assert figures.texts(frame.iloc[:1], "test/iwae") == ["-274.56"]
    assert figures.texts(over(frame), "test/mi") == ["6.850 ± 0.050*", "5.050 ± 0.050 "]


def test_likelihoods_of_different_things_are_named_where_both_are_in_one_table(frame) -> None:
    """A Bernoulli likelihood has bits per dimension, and densities have none."""
    names = ["beta", "test/elbo"]
    line = "ELBOs, bounds and bits per dimension compare only within one likelihood, not between bernoulli, gaussian"
    bits, two = [0.3, 0.3, None, None], ["bernoulli", "bernoulli", "gaussian", "gaussian"]
    mixed = frame.assign(**{"test/bits_per_dim": bits, "likelihood": two})
    assert doubts.notes(mixed, names) == [line]
    assert doubts.notes(mixed, ["beta", "test/psnr"]) == []
    assert doubts.notes(mixed.iloc[:2], names) == []
    assert doubts.notes(mixed.assign(**{"test/bits_per_dim": None}), names) == []  # say laplace and gaussian


def test_the_terminal_marks_numbers_and_says_why(frame) -> None:
    out = io.StringIO()
    terminal.show(frame, out=Console(file=out, width=120))
    text = out.getvalue()
    assert "-274.00*" in text
    assert "-274.56*" not in text
    assert "* test/iwae: one weight dominates" in text
    assert text.count("* test/marginal_kl: too large") == 1
    out = io.StringIO()
    terminal.show(frame.drop(columns=["test/mi_at_limit", "test/iwae_dominated"]), out=Console(file=out, width=120))
    assert "*" not in out.getvalue()
