"""Average points that differ only in their seed: one row with mean, standard error and number of points."""

from collections.abc import Sequence

import pandas as pd

from vae_sweeps.analysis.table import config_columns, setting_columns
from vae_sweeps.config.keys import as_typed, did_you_mean
from vae_sweeps.runs import catalogue

# Suffixes: standard error, and number of points averaged.
SE, N = "/se", "/n"


def over(table: pd.DataFrame, keys: Sequence[str] = ("seed",)) -> pd.DataFrame:
    """Average the points of a results table that differ only in the config columns `keys`, one row per group.

    Rows keep the order in which the groups first appear. Columns: the other config columns; `n`, the number of finished
    points; `num_missing`, the number of points without results (diverged, failed, not finished); then for each metric X
    its mean X (for `test/collapsed`, the share) and `X/se`, the standard error s / sqrt(n) of the mean, where s has
    n - 1 degrees of freedom; NaN for n = 1. If some finished points lack X, the mean is over those that have it, and
    `X/n` is their number.

    Points of equal latent size are evaluated with the same noise, so its share in their numbers is not in `X/se`.

    Raises ValueError if a key is not a config column, if the table shows no difference between two points, or if
    points of one group were evaluated with different settings.
    """
    keys = [keys] if isinstance(keys, str) else list(keys)
    if "run" not in table:
        raise ValueError(f"{','.join(keys)}: cannot be averaged over in a table of averages; name all keys at once")
    known = config_columns(table)
    for key in keys:
        if key not in known:
            raise ValueError(f"{key}: must be a column of the config to average over; {did_you_mean(key, known)}")
    table = table.drop_duplicates("run", ignore_index=True)  # several sweeps may share a run
    _check_told_apart(table, known)

    config = [name for name in known if name not in keys]
    metrics = [name for name in table if name not in known and _is_averaged(table, name)]
    group = pd.Series(table.groupby(config, sort=False, dropna=False).ngroup() if config else 0, table.index)
    is_done = table["status"] == "done"
    settings = setting_columns(table)
    _check_made_alike(table.loc[is_done, settings], group)
    n = is_done.groupby(group).sum()
    numbers = table[metrics].astype("float64").where(is_done).groupby(group)
    count = numbers.count()
    is_of_fewer = ((count > 0) & count.lt(n, axis="index")).any()
    parts = [
        table.loc[~group.duplicated(), config].reset_index(drop=True),
        table[settings].groupby(group).first(),
        pd.DataFrame({"n": n, "num_missing": group.groupby(group).size() - n}),
        numbers.mean(),
        numbers.sem(ddof=1).add_suffix(SE),
        count.loc[:, is_of_fewer].add_suffix(N),
    ]
    rows = pd.concat(parts, axis="columns")
    of_metrics = [f"{name}{suffix}" for name in metrics for suffix in ("", SE, N)]
    return rows.loc[:, [*config, *settings, "n", "num_missing", *(name for name in of_metrics if name in rows)]]


def _is_averaged(table: pd.DataFrame, name: str) -> bool:
    """Look the column up in the catalogue; a column that a user added is averaged if it holds numbers."""
    metric = catalogue.find(name)
    return pd.api.types.is_numeric_dtype(table[name]) if metric is None else metric.is_averaged


def _check_made_alike(settings: pd.DataFrame, group: pd.Series) -> None:
    """Refuse to average numbers that were made differently, such as bounds of 10 and of 1,000 samples."""
    for column in settings:
        alike = [values.dropna().unique() for _, values in settings[column].groupby(group.loc[settings.index])]
        values = max(alike, key=len, default=())
        if len(values) > 1:
            texts = [f"{value:g}" if isinstance(value, float) else as_typed(value) for value in values]
            setting = str(column).split(".", 2)[2]
            raise ValueError(
                f"{column}: must be equal in points that are averaged, not {' and '.join(texts)}; "
                f"use `vae-sweeps evaluate SWEEP evaluation.{setting}={texts[-1]}`, which makes it equal"
            )


def _check_told_apart(table: pd.DataFrame, config: Sequence[str]) -> None:
    same = table.loc[table.duplicated(config, keep=False), "run"]
    if len(same):
        raise ValueError(
            f"{same.iloc[0]} and {len(same) - 1} more: must differ in a column of the table, not only in what it "
            "does not show, such as their data's content; use the table of one sweep"
        )
