"""The columns of a results table: those that a user chooses, and the order in which they are shown."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vae_sweeps.analysis.seeds import SE, N
from vae_sweeps.analysis.table import config_columns, setting_columns
from vae_sweeps.config.keys import did_you_mean
from vae_sweeps.runs import catalogue


def chosen(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Select the columns `names`, in that order; a prefix selects all its columns, such as fid all of fid/...

    Raises ValueError with the nearest names if there is no such column.
    """
    kept = []
    for name in names:
        matches = [
            column
            for column in map(str, frame.columns)
            if column == name or column.startswith((f"{name}/", f"{name}."))
        ]
        if not matches:
            raise ValueError(f"{name}: no such column; {did_you_mean(name, list(map(str, frame.columns)))}")
        kept += matches
    return frame.loc[:, list(dict.fromkeys(kept))]


def sorted_by(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Sort the rows by column `name`, descending for `-name`: numbers before words, missing values last.

    Raises ValueError with the nearest names if there is no such column.
    """
    column = name.removeprefix("-")
    if column not in frame:
        raise ValueError(f"{column}: no such column; {did_you_mean(column, list(map(str, frame.columns)))}")
    values, is_missing = frame[column].to_list(), frame[column].isna().to_list()
    rows = sorted(
        (k for k in range(len(frame)) if not is_missing[k]),
        key=lambda k: (isinstance(values[k], str), values[k]),
        reverse=name.startswith("-"),
    )
    return frame.iloc[[*rows, *(k for k in range(len(frame)) if is_missing[k])]]


def shown(frame: pd.DataFrame) -> list[str]:
    """The columns that have a value, except the run's name, and X/se and X/n, which are shown with X."""
    has_value = frame.notna().any().to_list()
    names = [str(name) for name, has in zip(frame.columns, has_value, strict=True) if name != "run" and has]
    return [
        name for name in names if not any(name.endswith(end) and name.removesuffix(end) in frame for end in (SE, N))
    ]


def the_same(frame: pd.DataFrame) -> list[str]:
    """The config columns that have the same value in all rows."""
    return [name for name in config_columns(frame) if len(frame) and not _varies(frame, name)]


def by_interest(frame: pd.DataFrame, swept: Sequence[str] = ()) -> list[str]:
    """Order the columns that are `shown` by usefulness: swept keys first, then the metrics that are used most.

    If there are several rows, columns with the same value in all rows are left out; so are `status` and `num_missing`
    if all points are done.
    """
    keys = [*config_columns(frame), *setting_columns(frame)]
    candidates = shown(frame)
    metrics = [name for name in candidates if name not in (*keys, "n", "num_missing", "status")]
    config, varying = ([name for name in names if len(frame) == 1 or _varies(frame, name)] for names in (keys, metrics))
    ends = ["n"]
    if "num_missing" in frame and any(frame["num_missing"]):
        ends.append("num_missing")
    if "status" in frame and set(frame["status"]) != {"done"}:
        ends.append("status")
    leading = [name for name in (*swept, "beta", "latent") if name in config]
    varying = [name for name in varying if not _repeats(frame, name)]
    ranked = catalogue.by_interest(varying)
    order = [*leading, *ends, *ranked[:2], *config, *ranked, *varying]
    return [name for name in dict.fromkeys(order) if name in candidates]


def _varies(frame: pd.DataFrame, name: str) -> bool:
    return len(frame[[name]].drop_duplicates()) > 1


def _repeats(frame: pd.DataFrame, name: str) -> bool:
    """Whether the metric equals the config column that the catalogue says it usually repeats."""
    metric = catalogue.find(name)
    if metric is None or (source := metric.repeats) not in frame:
        return False
    both = frame.loc[frame[name].notna(), [name, source]].apply(pd.to_numeric, errors="coerce")
    return np.allclose(both[name], both[source])
