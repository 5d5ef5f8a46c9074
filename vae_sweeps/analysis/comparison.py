"""Compare two sweeps: what differs in their configs, and their numbers, point by point and seed by seed."""

import math
from dataclasses import dataclass

import pandas as pd

from vae_sweeps.analysis.table import config_columns

_SEED = "seed"


@dataclass(frozen=True)
class Comparison:
    """The points of two sweeps that correspond to each other.

    `differing` has the config columns with one value in each sweep, and these values. `rows` has one row for each pair
    of points that differ in these only: the columns in `keys`, `first` and `second` (means over the common seeds),
    `difference` (second minus first), `se` (the standard error of the mean difference over seeds, NaN for one) and `n`.
    `unpaired` counts the finished points of each sweep that have no partner.
    """

    differing: dict[str, tuple[object, object]]
    keys: list[str]
    rows: pd.DataFrame
    unpaired: tuple[int, int]

    def mean_difference(self) -> tuple[float, float]:
        """The mean difference over all pairs of points, and its standard error over them."""
        numbers = self.rows["difference"].to_numpy(dtype=float)
        error = numbers.std(ddof=1) / math.sqrt(len(numbers)) if len(numbers) > 1 else math.nan
        return float(numbers.mean()), float(error)


def compare(first: pd.DataFrame, second: pd.DataFrame, column: str) -> Comparison:
    """Compare the finished points of two tables, which have the same columns, by the numbers in a column.

    Points with the same config, but for the keys that differ between the tables, are paired, seed by seed.
    """
    sides = [side.loc[(side["status"] == "done") & side[column].notna()] for side in (first, second)]
    known = [key for key in config_columns(first) if key != _SEED]
    differing, keys = dict[str, tuple[object, object]](), list[str]()
    for key in known:
        one, other = (list(dict.fromkeys(side[key])) for side in sides)
        if len(one) == len(other) == 1 and one != other:
            differing[key] = one[0], other[0]
        elif max(len(one), len(other)) > 1:
            keys.append(key)
    shared = [*keys, _SEED]
    left = sides[0][[*shared, column]].rename(columns={column: "first"})
    pairs = left.merge(sides[1][[*shared, column]].rename(columns={column: "second"}), on=shared)
    pairs["difference"] = pairs["second"] - pairs["first"]
    grouped = pairs.groupby(keys or [0] * len(pairs), sort=False, dropna=False)
    rows = grouped[["first", "second", "difference"]].mean()
    rows["se"], rows["n"] = grouped["difference"].sem(), grouped.size()
    rows = rows.reset_index(drop=not keys)
    return Comparison(differing, keys, rows, (len(sides[0]) - len(pairs), len(sides[1]) - len(pairs)))
