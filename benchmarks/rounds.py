"""Figures of several rounds: medians with their spread, and ratios, which are formed within each round.

The speed of a machine drifts, so times of different rounds do not compare.
"""

import math
import statistics
from collections.abc import Sequence


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """The ratio of each round."""
    return [a / b for a, b in zip(values, base, strict=True)]


def median(values: Sequence[float], digits: int = 3) -> str:
    """The median to so many significant digits."""
    return significant(statistics.median(values), digits)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, with the smallest and the largest value if there are several."""
    if len(values) < 2:
        return significant(values[0], digits)
    low, high = significant(min(values), digits), significant(max(values), digits)
    return f"{median(values, digits)} ({low} to {high})"


def significant(value: float, digits: int) -> str:
    """`value` with so many significant digits, and never in powers of ten."""
    before = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    if before >= digits:
        return f"{value:,.0f}"
    shown = f"{value:.{digits}g}"
    places = len(shown.partition(".")[2])
    return f"{value:.{max(places, digits - before)}f}"


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The exponent p of seconds ~ sizes ** p: the slope of the line through their logarithms (least squares)."""
    return statistics.linear_regression([math.log(s) for s in sizes], [math.log(s) for s in seconds]).slope
