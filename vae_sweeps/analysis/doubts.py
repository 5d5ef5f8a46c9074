"""Marks of a table's values that are not to be relied on, as the catalogue says."""

from collections.abc import Iterable, Sequence

import pandas as pd

from vae_sweeps.runs import catalogue

MARK = "*"
_WITHIN_A_LIKELIHOOD = {"elbo", "likelihood"}  # groups of metrics that compare only within one likelihood


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
    """One line for each of these columns that has a mark, and one if the likelihoods of the rows do not compare."""
    found, groups = [], set()
    for name in names:
        metric = catalogue.find(name)
        groups.add(metric and metric.group)
        if metric is not None and metric.doubt is not None and any(in_doubt(frame, name)):
            found.append(f"{MARK} {name}: {metric.doubt.why}")
    if groups & _WITHIN_A_LIKELIHOOD and _has_other_likelihoods(frame):
        likelihoods = ", ".join(dict.fromkeys(map(str, frame["likelihood"])))
        found.append(
            f"ELBOs, bounds and bits per dimension compare only within one likelihood, not between {likelihoods}"
        )
    return found


def are_comparable(frame: pd.DataFrame, name: str) -> bool:
    """Whether the column's numbers compare between rows of several likelihoods."""
    metric = catalogue.find(name)
    return metric is None or metric.group not in _WITHIN_A_LIKELIHOOD or not _has_other_likelihoods(frame)


def _has_other_likelihoods(frame: pd.DataFrame) -> bool:
    """Whether the rows' likelihoods differ, and not all are densities, which have no bits per dimension."""
    has_bits = "test/bits_per_dim" in frame and bool(frame["test/bits_per_dim"].notna().any())
    return has_bits and "likelihood" in frame and len(set(frame["likelihood"])) > 1
