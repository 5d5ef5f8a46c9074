"""README and docs/performance.md quote benchmarks/results.json, and the numbers in tables are what they should be."""

import math
import runpy

import pytest

from benchmarks import rounds
from tests.conftest import ROOT

SCRIPT = runpy.run_path(str(ROOT / "docs" / "make_performance_tables"))


@pytest.mark.parametrize("document", SCRIPT["DOCUMENTS"], ids=lambda path: path.name)
def test_the_document_quotes_the_results(document) -> None:
    text = document.read_text()
    assert SCRIPT["PLACE"].search(text)
    assert SCRIPT["filled"](text) == text, "run docs/make_performance_tables"


def test_ratios_are_formed_within_rounds() -> None:
    assert rounds.ratios([1.0, 10.0], [2.0, 20.0]) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (0.8432, 3, "0.843"),
        (1.05, 2, "1.1"),
        (12.34, 2, "12"),
        (123.4, 2, "123"),
        (1234.5, 3, "1,234"),
        (2.0, 3, "2.00"),
    ],
)
def test_numbers_keep_their_significant_digits(value: float, digits: int, shown: str) -> None:
    assert rounds.significant(value, digits) == shown


def test_the_slope_is_the_exponent_of_a_power_law() -> None:
    sizes = [1, 3, 9, 27]
    assert math.isclose(rounds.slope(sizes, [5 * size**0.7 for size in sizes]), 0.7)
