"""Read the folders of sweeps for a report, and note what is missing in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vae_sweeps.analysis import seeds, table
from vae_sweeps.analysis.format import cell
from vae_sweeps.runs import row_log, states
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder

_LAST = ("beta", "latent", "seed")  # the end of a label, in this order


@dataclass(frozen=True)
class Run:
    """A point, its state and the content of its folder; `rows` are those of metrics.jsonl, `result` may be empty."""

    folder: RunFolder
    label: str
    state: states.PointState
    result: Mapping[str, Any]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Sweep:
    """A sweep's name and the lines of its launch log, oldest first."""

    name: str
    launches: list[dict[str, Any]]


@dataclass(frozen=True)
class Contents:
    """The content of a report.

    `table` has one row per run, in the order of `runs`. `groups` maps the first run of each group to the runs that
    differ only in their seed, and `means` has one row per group. `keys` are the config columns that vary, with beta,
    latent and seed last. `gone` lists the runs without a folder, and `notes` describes other missing content.
    """

    sweeps: list[Sweep]
    runs: dict[str, Run]
    table: pd.DataFrame
    means: pd.DataFrame
    groups: dict[str, list[str]]
    keys: list[str]
    gone: list[str]
    notes: list[str]

    @property
    def points(self) -> list[states.PointState]:
        """The states of all runs that have a folder."""
        return [run.state for run in self.runs.values()]

    @property
    def group_keys(self) -> list[str]:
        """The varying keys except the seed; they distinguish the rows of `means`."""
        return [key for key in self.keys if key != "seed"]


def read(sweep_folders: Sequence[SweepFolder]) -> Contents:
    """Read the sweeps and their runs; a run that several sweeps share counts once."""
    notes: list[str] = []
    state_of = {
        folder: state
        for sweep, points in zip(sweep_folders, _states(sweep_folders, notes), strict=True)
        for folder, state in zip(sweep.runs(), points, strict=True)
    }
    by_name = {folder.name: folder for folder in state_of}
    swept = dict.fromkeys(key for sweep in sweep_folders for key in sweep.swept())
    records = {record.run: record for record in table.read_records(by_name.values())}
    folders = [by_name[name] for name in records]
    frame = table.table_of(list(records.values()), list(swept))
    keys = _varying(frame)
    named = [key for key in keys if key not in _LAST] + [key for key in _LAST if key in keys or key != "seed"]
    runs = {
        folder.name: Run(
            folder=folder,
            label=label(row, named),
            state=state_of[folder],
            result=records[folder.name].result or {},
            rows=_rows(folder, records[folder.name].result, notes),
        )
        for folder, row in zip(folders, frame.to_dict("records"), strict=True)
    }
    means, groups = _means(frame, notes)
    return Contents(
        sweeps=[_sweep(folder) for folder in sweep_folders],
        runs=runs,
        table=frame,
        means=means,
        groups=groups,
        keys=keys,
        gone=[name for name in by_name if name not in runs],
        notes=notes,
    )


def label(row: Mapping[Any, Any], keys: Sequence[str]) -> str:
    """Format a row's values of `keys`, as `beta=0.01 latent=10`."""
    return " ".join(f"{key}={cell(key, row[key])}" for key in keys)


def _states(sweep_folders: Sequence[SweepFolder], notes: list[str]) -> list[list[states.PointState]]:
    try:
        return states.of_sweeps(sweep_folders)
    except ValueError as error:  # a report must not depend on SLURM
        notes.append(f"States come from the run folders only, because SLURM did not answer ({error}).")
        return states.of_sweeps(sweep_folders, may_ask_slurm=False)


def _rows(folder: RunFolder, result: Mapping[str, Any] | None, notes: list[str]) -> list[dict[str, Any]]:
    """The run's rows; none, with a note, if a finished run has other rows than it wrote."""
    if result is not None and not row_log.is_whole(folder, result):
        notes.append(f"The rows of {folder.name} are damaged, so its curves are left out.")
        return []
    return folder.read_rows()


def _sweep(folder: SweepFolder) -> Sweep:
    return Sweep(folder.read()["sweep"], folder.read_launches())


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
