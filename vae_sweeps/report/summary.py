"""What a sweep found, in sentences that lead to their place in the report."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from vae_sweeps.analysis import doubts, seeds
from vae_sweeps.analysis.format import cells, is_missing, means
from vae_sweeps.report import figures
from vae_sweeps.report.contents import Contents, label
from vae_sweeps.runs import catalogue, states
from vae_sweeps.system.logs import count

_MAX_NAMED = 3


@dataclass(frozen=True)
class Part:
    """A piece of a sentence; `target` is the place in the page that it leads to, "" for none."""

    text: str
    target: str = ""


Sentence = list[Part]


def of(content: Contents) -> list[Sentence]:
    """The sentences, in the order of their importance; none without points."""
    if not content.runs:
        return []
    return [_points(content), *_best(content), *_unused(content)]


def best_rows(frame: pd.DataFrame, name: str) -> list[int]:
    """The rows with the best value of a column, by the direction of its metric; none if there is no direction.

    There are none either if the column's numbers do not compare between the rows, or if most rows have the same one.
    Those of points that diverged do not count. Numbers in doubt do: each of them is a bound, which may lie too far to
    the worse side only.
    """
    metric = catalogue.find(name)
    if metric is None or metric.better is None or metric.group == "cost" or len(frame) < 2 or _apart(frame, name):
        return []
    values = frame[name].astype("float64")
    if "status" in frame:
        values = values.where(frame["status"] == "done")
    best = values.max() if metric.better == "higher" else values.min()
    rows = [row for row, value in enumerate(values) if value == best]
    return rows if len(rows) <= len(frame) / 2 else []


def _apart(frame: pd.DataFrame, name: str) -> list[str]:
    """The config columns whose values keep the column's numbers from comparing: those of the data, the likelihood."""
    keys = [key for key in map(str, frame.columns) if key == "data" or key.startswith("data.")]
    varying = [key for key in keys if len(frame[key].drop_duplicates()) > 1]
    return varying if doubts.are_comparable(frame, name) else [*varying, "likelihood"]


def _points(content: Contents) -> Sentence:
    """How many points there are, in which states."""
    is_whole = all(point.state in ("done", "stopped") for point in content.points) and not content.gone
    where = "#table" if is_whole else "#missing"
    counts, points = states.counts(content.points), count(len(content.runs), "point")
    if "," not in counts and len(content.runs) > 1:
        return [Part(f"All {points} are "), Part(counts.partition(" ")[2], where), Part(".")]
    return [Part(f"Of {points}: "), Part(counts, where), Part(".")]


def _best(content: Contents) -> Iterator[Sentence]:
    """The best points by each metric that is a goal, among those whose numbers compare."""
    frame = content.means
    for column in map(str, frame.columns):
        metric = catalogue.find(column)
        if metric is None or not metric.is_goal:
            continue
        apart = _apart(frame, column)
        groups = [rows for _, rows in frame.groupby(apart, sort=False, dropna=False)] if apart else [frame]
        for rows in groups if len(groups) <= _MAX_NAMED else []:
            yield from _best_of(content, rows.reset_index(drop=True), column, apart)


def _best_of(content: Contents, frame: pd.DataFrame, column: str, apart: list[str]) -> Iterator[Sentence]:
    rows = best_rows(frame, column)
    if not rows:
        return
    row, errors = frame.iloc[rows[0]], f"{column}{seeds.SE}"
    has_errors = errors in frame and not all(map(is_missing, frame[errors]))
    texts = means(column, frame[column], frame[errors]) if has_errors else cells(column, frame[column])
    texts = doubts.marked(frame, column, texts)
    among = f" among {label(row, apart)}" if apart else ""
    also = f", and of {len(rows) - 1} more" if len(rows) > 1 else ""
    extreme = "Highest" if catalogue.of_table(column).better == "higher" else "Lowest"
    yield [
        Part(f"{extreme} {catalogue.label(column)}{among}: {' '.join(texts[rows[0]].split())} with "),
        Part(label(row, content.group_keys) or row["run"], f"#run/{row['run']}"),
        Part(f"{also}."),
    ]


def _unused(content: Contents) -> Iterator[Sentence]:
    """The finished points in which no latent is active."""
    frame = content.table
    if not figures.has(frame, "test/active_units"):
        return
    runs = frame.loc[(frame["status"] == "done") & frame["test/active_units"].eq(0).fillna(False), "run"].tolist()
    if not runs:
        return
    named = [Part(content.runs[run].label, f"#run/{run}") for run in runs[:_MAX_NAMED]]
    listed = [part for one in named for part in (Part(", "), one)][1:]
    more = f" and {len(runs) - _MAX_NAMED} more" if len(runs) > _MAX_NAMED else ""
    yield [Part(f"No latent is active in {count(len(runs), 'point')}: "), *listed, Part(f"{more}.")]
