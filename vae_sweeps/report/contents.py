"""Read the folders of sweeps for a report, and note what is missing in them."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from vae_sweeps.analysis import seeds, table
from vae_sweeps.analysis.format import cell
from vae_sweeps.report.rows import NO_ROWS, Rows, read_rows
from vae_sweeps.runs import row_log, states
from vae_sweeps.runs.known_results import KnownResults
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder

_LAST = ("beta", "latent", "seed")  # the end of a label, in this order
MANY = 1000  # of more runs, only the best are shown one by one
NUM_BEST = 50
NUM_SPREAD = 1000  # of more runs, the spread of the curves is that of about so many
_MOST_SPARSE_CELLS = 30
_MOST_ROWS, _FEW_ROWS = 2000, 12  # that are read of a run: of each, and of one of many


@dataclass(frozen=True)
class Run:
    """A point, its state and the content of its folder.

    `config` has dotted keys, and `result` may be empty.
    """

    folder: RunFolder
    label: str
    state: states.PointState
    result: Mapping[str, Any]
    rows: Rows
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Sweep:
    """A sweep's name, the lines of its launch log, oldest first, and whether an adaptive search chose its points."""

    name: str
    launches: list[dict[str, Any]]
    is_search: bool = False


@dataclass(frozen=True)
class Contents:
    """The content of a report.

    `table` has one row per run, in the order of `runs`. `groups` maps the first run of each group to the runs that
    differ only in their seed, and `means` has one row per group. `keys` are the config columns that vary, with beta,
    latent and seed last. `gone` lists the runs without a folder, and `notes` describes other missing content. `best`
    are the first runs of the groups with the best mean validation ELBO, if there are `MANY` runs, and empty otherwise.
    `spread` are the first runs of some groups, chosen at random, whose curves stand for those of all. No curves are
    read of groups that are neither in `spread` nor in `best`.
    """

    sweeps: list[Sweep]
    runs: dict[str, Run]
    table: pd.DataFrame
    means: pd.DataFrame
    groups: dict[str, list[str]]
    keys: list[str]
    gone: list[str]
    notes: list[str]
    best: list[str]
    spread: list[str]

    @property
    def points(self) -> list[states.PointState]:
        """The states of all runs that have a folder."""
        return [run.state for run in self.runs.values()]

    @property
    def group_keys(self) -> list[str]:
        """The varying keys except the seed; they distinguish the rows of `means`."""
        return [key for key in self.keys if key != "seed"]

    @property
    def is_of_many(self) -> bool:
        """Whether only the best runs are shown one by one."""
        return len(self.runs) > MANY

    def targets(self, runs: Iterable[str]) -> list[str] | list[int]:
        """What a click on the marks of these runs opens: the runs, or if there are many, their rows in the table."""
        return [self.row_of[run] for run in runs] if self.is_of_many else list(runs)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each run in the table."""
        return {run: i for i, run in enumerate(self.table["run"])}

    @property
    def shown(self) -> list[str]:
        """The runs whose pictures and curves are shown: all, or the best of many."""
        return self.best if self.is_of_many else list(self.runs)


def read(sweep_folders: Sequence[SweepFolder], results: KnownResults | None = None) -> Contents:
    """Read the sweeps and their runs; a run that several sweeps share counts once.

    `results` are those that have been read already.
    """
    notes: list[str] = []
    results = KnownResults() if results is None else results
    state_of = {
        folder: state
        for sweep, points in zip(sweep_folders, _states(sweep_folders, results, notes), strict=True)
        for folder, state in zip(sweep.runs(), points, strict=True)
    }
    by_name = {folder.name: folder for folder in state_of}
    swept = dict.fromkeys(key for sweep in sweep_folders for key in sweep.swept())
    records = {record.run: record for record in table.read_records(by_name.values(), results)}
    folders = [by_name[name] for name in records]
    frame = table.table_of(list(records.values()), list(swept))
    if len(sweep_folders) > 1:
        frame.insert(1, "sweep", _sweeps_of(list(records), sweep_folders))
    keys = _varying(frame)
    means, groups = _means(frame, notes)
    shown = best(means)["run"].tolist() if len(folders) > MANY else []
    in_full = set(shown) if shown else by_name
    # At random, since each n-th group of a grid may have the same value of a key. Always the same ones.
    num_spread = len(groups) * NUM_SPREAD // max(len(folders), NUM_SPREAD)
    spread = random.Random(0).sample(list(groups), num_spread) if shown else list(groups)
    with_curves = {run for first in {*spread, *shown} for run in groups[first]}
    named = [key for key in keys if key not in _LAST] + [key for key in _LAST if key in keys or key != "seed"]
    runs = {
        folder.name: Run(
            folder=folder,
            label=label(row, named),
            state=state_of[folder],
            result=records[folder.name].result or {},
            rows=_rows(folder, results, _MOST_ROWS if folder.name in in_full else _FEW_ROWS, notes)
            if folder.name in with_curves
            else NO_ROWS,
            config=records[folder.name].config,
        )
        for folder, row in zip(folders, _records(frame, named), strict=True)
    }
    return Contents(
        sweeps=[_sweep(folder) for folder in sweep_folders],
        runs=runs,
        table=frame,
        means=means,
        groups=groups,
        keys=keys,
        gone=[name for name in by_name if name not in runs],
        notes=notes,
        best=shown,
        spread=spread,
    )


def label(row: Mapping[Any, Any], keys: Sequence[str]) -> str:
    """Format a row's values of `keys`, as `beta=0.01 latent=10`."""
    return " ".join(f"{key}={cell(key, row[key])}" for key in keys)


def _records(frame: pd.DataFrame, keys: Sequence[str]) -> list[dict[Any, Any]]:
    return frame.loc[:, [key for key in keys if key in frame]].to_dict("records")


def _states(
    sweep_folders: Sequence[SweepFolder], results: KnownResults, notes: list[str]
) -> list[list[states.PointState]]:
    try:
        return states.of_sweeps(sweep_folders, results=results)
    except ValueError as error:  # a report must not depend on SLURM
        notes.append(f"States come from the run folders only, because SLURM did not answer ({error}).")
        return states.of_sweeps(sweep_folders, may_ask_slurm=False, results=results)


def _rows(folder: RunFolder, results: KnownResults, num_rows: int, notes: list[str]) -> Rows:
    """The run's rows; none, with a note, if a finished run has other rows than it wrote."""
    result = results.of(folder)
    if result is not None and not row_log.is_whole(folder, result):
        notes.append(f"The rows of {folder.name} are damaged, so its curves are left out.")
        return NO_ROWS
    return read_rows(folder, num_rows)


def _sweep(folder: SweepFolder) -> Sweep:
    return Sweep(folder.read()["sweep"], folder.read_launches(), folder.study.exists())


def _sweeps_of(runs: Iterable[str], sweep_folders: Sequence[SweepFolder]) -> list[str]:
    """The names of the sweeps that have each run."""
    members = {folder.name: {run.name for run in folder.runs()} for folder in sweep_folders}
    return [", ".join(name for name, names in members.items() if run in names) for run in runs]


def _varying(frame: pd.DataFrame) -> list[str]:
    names = [name for name in table.config_columns(frame) if len(frame[name].drop_duplicates()) > 1]
    return [name for name in names if name not in _LAST] + [name for name in _LAST if name in names]


def _means(frame: pd.DataFrame, notes: list[str]) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Make the table of means, with the first run of each group, and the groups."""
    alone = {run: [run] for run in frame["run"]}
    if frame.empty:
        return frame, alone
    try:
        means = seeds.over(frame)
    except ValueError as error:
        notes.append(f"Seeds are not averaged ({error}).")
        return frame, alone
    config = [name for name in table.config_columns(frame) if name != "seed"]
    runs = frame.groupby(config, sort=False, dropna=False)["run"].agg(list)
    groups = {members[0]: members for members in runs}
    return means.assign(run=list(groups)), groups


def is_sparse(num_points: int, num_cells: int) -> bool:
    """Whether a grid of so many cells, in which most have no point, says less than a list: as of random samples."""
    return num_cells > _MOST_SPARSE_CELLS and num_points < num_cells / 2


def best(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with the best validation ELBO, at most `NUM_BEST`, best first."""
    return frame.sort_values("val/elbo", ascending=False, kind="stable").head(NUM_BEST)
