"""Print a results table: the most useful columns that fit a terminal, or all columns for programs."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vae_sweeps.analysis import columns, doubts
from vae_sweeps.analysis.format import cell, cells, is_missing, means
from vae_sweeps.analysis.seeds import SE, N
from vae_sweeps.analysis.table import config_columns
from vae_sweeps.runs import catalogue
from vae_sweeps.system.logs import count

_WIDTH_OF_A_FILE = 120
_LONGEST_TEXT = 24
_GAP = 2
_STYLES = {"done": "green", "stopped": "blue", "running": "cyan"}
_STYLES |= dict.fromkeys(("interrupted", "preempted"), "yellow") | dict.fromkeys(("diverged", "failed"), "red")


def show(
    frame: pd.DataFrame,
    swept: Sequence[str] = (),
    *,
    out: Console,
    over: Sequence[str] = (),
    chosen: Sequence[str] | None = None,
    printed: pd.DataFrame | None = None,
) -> None:
    """Print as many columns as fit: the most useful ones, or those of `chosen`, in its order.

    What is in doubt is marked in either case, although the columns that say so may not be among the chosen ones.
    `over` names the config columns that the rows are averaged over, if any. `printed` are the rows of `frame` to print,
    if not all.
    """
    printed = frame if printed is None else printed
    width = out.width if out.is_terminal else _WIDTH_OF_A_FILE
    selected = frame if chosen is None else frame.loc[:, list(chosen)]
    order = columns.by_interest(frame, swept) if chosen is None else columns.shown(selected)
    texts = {name: _texts(printed, name) for name in order}
    kept = _that_fit(texts, width)
    if chosen is None:
        config = config_columns(frame)
        kept.sort(key=lambda name: name not in config)  # config columns to the left of the metrics
    rows = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0), header_style="bold")
    for name in kept:
        is_text = any(isinstance(value, str) for value in printed[name])
        rows.add_column(_heading(name), justify="left" if is_text else "right", no_wrap=True, vertical="bottom")
    for row in zip(*(texts[name] for name in kept), strict=True):
        rows.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in row))
    out.print(_cut(_about(selected, over, kept), width), markup=False)
    out.print(rows)
    for note in doubts.notes(printed, kept):
        out.print(_cut(note, width), markup=False)
    named = {*kept, *columns.the_same(selected), "status", "num_missing"}
    for note in _notes(kept, [name for name in dict.fromkeys([*order, *columns.shown(selected)]) if name not in named]):
        out.print(_cut(note, width), style="dim", markup=False)


def plain(frame: pd.DataFrame) -> str:
    """Format all columns for programs: one line per row, blanks between values, six digits, NaN if missing."""

    def word(value: Any) -> str:
        if is_missing(value):
            return "NaN"
        if isinstance(value, float):
            return f"{value:.6g}"
        return json.dumps(value) if isinstance(value, str) and re.search(r'\s|^$|"', value) else str(value)

    columns = [[str(name), *map(word, frame[name])] for name in frame]
    widths = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    return "\n".join(" ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows)


def _texts(frame: pd.DataFrame, name: str) -> list[str]:
    errors = frame.get(f"{name}{SE}")
    texts = cells(name, frame[name]) if errors is None else means(name, frame[name], errors)
    if f"{name}{N}" in frame:
        texts = [f"{text} ({n})" for text, n in zip(texts, frame[f"{name}{N}"], strict=True)]
    texts = doubts.marked(frame, name, texts)
    return [_cut(text, _LONGEST_TEXT) if name in config_columns(frame) else text for text in texts]


def _heading(name: str) -> str:
    return name.replace("/", "\n").replace(".", "\n.")


def _that_fit(texts: Mapping[str, Sequence[str]], room: int) -> list[str]:
    kept = []
    for name, column in texts.items():
        width = max(map(len, [*_heading(name).split("\n"), *column])) + _GAP
        if width <= room + _GAP:  # no gap after the last column
            kept.append(name)
            room -= width
    return kept


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _about(frame: pd.DataFrame, over: Sequence[str], kept: Sequence[str]) -> str:
    """The number of points, how they ended, and the config values that they share."""
    number = count(len(frame), "row" if over else "point")
    if over:
        number += f", mean ± standard error over {','.join(over)}"
    elif "status" in frame:
        counts = [f"{'all' if n == len(frame) else n} {status}" for status, n in frame["status"].value_counts().items()]
        number += f": {', '.join(counts)}"
    same = [f"{name}={cell(name, frame[name].iloc[0])}" for name in columns.the_same(frame) if name not in kept]
    return f"{number}; {' '.join(same)}" if same else number


def _notes(kept: Sequence[str], left_out: Sequence[str]) -> list[str]:
    notes = []
    if in_nats := [name.split("/")[-1] for name in kept if _unit(name) == catalogue.NATS]:
        *others, last = dict.fromkeys(in_nats)
        names = f"{', '.join(others)} and {last}" if others else last
        notes.append(f"{names}: {catalogue.NATS}{', the ELBO at beta = 1' if 'elbo' in in_nats else ''}")
    if left_out:
        heads = {name.split("/")[0] for name in kept}
        names = [name if (head := name.split("/")[0]) in heads else f"{head}/*" for name in left_out if "/" in name]
        names += [name for name in left_out if "/" not in name]
        more = count(len(left_out), "more column")
        notes.append(f"{more} (vae-sweeps results --columns A,B or --csv FILE): {', '.join(dict.fromkeys(names))}")
    return notes


def _unit(name: str) -> str:
    metric = catalogue.find(name)
    return "" if metric is None else metric.unit
