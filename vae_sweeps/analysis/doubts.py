"""Marks of a table's values that are not to be relied on, as the catalogue says."""

from collections.abc import Iterable, Sequence

import pandas as pd

from vae_sweeps.runs import catalogue

MARK = "*"


def marked(frame: pd.DataFrame, name: str, texts: Sequence[str]) -> list[str]:
    """`texts` of the column `name` with a star after values in doubt, and a blank after others if any is in doubt."""
    doubted = in_doubt(frame, name)
    if not any(doubted):
        return list(texts)
    return [f"{text}{MARK if is_doubted else ' '}" for text, is_doubted in zip(texts, doubted, strict=True)]


def in_doubt(frame: pd.DataFrame, name: str) -> list[bool]:
    """Whether each value of the column is in doubt; rows averaged over seeds have the deciding column's average."""
    metric = catalogue.find(name)
    if metric is None or metric.doubt is None or metric.doubt.column not in frame:
        return [False] * len(frame)
    values = frame[metric.doubt.column].astype("Float64").gt(metric.doubt.limit).fillna(False)
    return [bool(value) for value in values.astype(bool) & frame[name].notna()]


def notes(frame: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """One line for each of these columns that has a mark: the column and the reason."""
    found = []
    for name in names:
        metric = catalogue.find(name)
        if metric is not None and metric.doubt is not None and any(in_doubt(frame, name)):
            found.append(f"{MARK} {name}: {metric.doubt.why}")
    return found
