"""Points that differ in their seed alone as one row: mean, standard error, and how many there are."""

from collections.abc import Sequence

import pandas as pd

from vae_sweeps.analysis.table import config_columns
from vae_sweeps.config.keys import did_you_mean
from vae_sweeps.runs import catalogue

# Behind a metric's name: the standard error of its mean, and of how many points the mean is.
SE, N = "/se", "/n"


def over(table: pd.DataFrame, keys: Sequence[str] = ("seed",)) -> pd.DataFrame:
    """One row for all points of a results table that differ in the config columns `keys` alone, where its first stands.

    Columns: the other config columns; `n`, the finished points, and `num_missing`, those without numbers (diverged,
    failed, not finished); then of each number X that a finished point has (of `test/collapsed` the share) its mean X
    and `X/se`, the mean's standard error s / sqrt(n) with s of n - 1 degrees of freedom, NaN where n = 1. Where some
    finished points lack X, it is of those that have it, and `X/n` says how many these are.

    Raises ValueError if a key is no config column, or if points are told apart by nothing that the table shows.
    """
    keys = [keys] if isinstance(keys, str) else list(keys)
    if "run" not in table:
        raise ValueError(f"{','.join(keys)}: cannot be averaged over in a table of averages; name all keys at once")
    known = config_columns(table)
    for key in keys:
        if key not in known:
            raise ValueError(f"{key}: is no column of the config to average over; {did_you_mean(key, known)}")
    table = table.drop_duplicates("run", ignore_index=True)  # sweeps share runs
    _check_told_apart(table, known)

    config = [name for name in known if name not in keys]
    metrics = [name for name in table if name not in known and _is_averaged(table, name)]
    group = table.groupby(config, sort=False, dropna=False).ngroup() if config else pd.Series(0, table.index)
    is_done = table["status"] == "done"
    n = is_done.groupby(group).sum()
    numbers = table[metrics].astype("float64").where(is_done).groupby(group)
    count = numbers.count()
    is_of_fewer = ((count > 0) & count.lt(n, axis="index")).any()
    parts = [
        table.loc[~group.duplicated(), config].reset_index(drop=True),
        pd.DataFrame({"n": n, "num_missing": group.groupby(group).size() - n}),
        numbers.mean(),
        numbers.sem(ddof=1).add_suffix(SE),
        count.loc[:, is_of_fewer].add_suffix(N),
    ]
    rows = pd.concat(parts, axis="columns")
    of_metrics = [f"{name}{suffix}" for name in metrics for suffix in ("", SE, N)]
    return rows.loc[:, [*config, "n", "num_missing", *(name for name in of_metrics if name in rows)]]


def _is_averaged(table: pd.DataFrame, name: str) -> bool:
    """As the catalogue says; of a column that a user has added, whether it holds numbers."""
    metric = catalogue.find(name)
    return pd.api.types.is_numeric_dtype(table[name]) if metric is None else metric.is_averaged


def _check_told_apart(table: pd.DataFrame, config: Sequence[str]) -> None:
    same = table.loc[table.duplicated(config, keep=False), "run"]
    if len(same):
        raise ValueError(
            f"{same.iloc[0]} and {len(same) - 1} more: differ in nothing that the table shows, such as their data's "
            "content; take the table of one sweep"
        )
