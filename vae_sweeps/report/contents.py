"""What the folders of some sweeps say, read once for a report; whatever is missing there is named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vae_sweeps.analysis import seeds, table
from vae_sweeps.analysis.format import cell
from vae_sweeps.runs import states
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder

_LAST = ("beta", "latent", "seed")  # the end of a label, in this order


@dataclass(frozen=True)
class Run:
    """A point: where it stands and what its folder says; `rows` are those of metrics.jsonl, `result` may be empty."""

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
    """All that a report tells.

    `table` has a row for each run, in the order of `runs`; `means` one for each of `groups`, the runs that differ in
    their seed alone, by the first of them. `keys` are the config columns that vary, beta, latent and the seed last.
    `gone` are runs without a folder, `notes` what else could not be had.
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
        """The varying keys but the seed: what tells the rows of `means` apart."""
        return [key for key in self.keys if key != "seed"]


def read(sweep_folders: Sequence[SweepFolder]) -> Contents:
    """Read the sweeps and their runs; those that sweeps share count once."""
    notes: list[str] = []
    found = {
        folder: state
        for sweep, points in zip(sweep_folders, _states(sweep_folders, notes), strict=True)
        for folder, state in zip(sweep.runs(), points, strict=True)
    }
    by_name = {folder.name: folder for folder in found}
    folders = [folder for folder in by_name.values() if folder.exists()]
    swept = dict.fromkeys(key for sweep in sweep_folders for key in sweep.swept())
    frame = table.make_table(folders, list(swept))
    keys = _varying(frame)
    named = [key for key in keys if key not in _LAST] + [key for key in _LAST if key in keys or key != "seed"]
    runs = {
        folder.name: Run(
            folder=folder,
            label=label(row, named),
            state=found[folder],
            result=folder.read_result() or {},
            rows=folder.read_rows(),
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
    """`beta=0.01 latent=10` of a row of the table."""
    return " ".join(f"{key}={cell(key, row[key])}" for key in keys)


def _states(sweep_folders: Sequence[SweepFolder], notes: list[str]) -> list[list[states.PointState]]:
    try:
        return states.of_sweeps(sweep_folders)
    except ValueError as error:  # a report is also made where the cluster cannot be asked
        notes.append(f"States are what the folders alone say, since SLURM did not answer ({error}).")
        return states.of_sweeps(sweep_folders, may_ask_slurm=False)


def _sweep(folder: SweepFolder) -> Sweep:
    return Sweep(folder.read()["sweep"], folder.read_launches())


def _varying(frame: pd.DataFrame) -> list[str]:
    names = [name for name in table.config_columns(frame) if len(frame[name].drop_duplicates()) > 1]
    return [name for name in names if name not in _LAST] + [name for name in _LAST if name in names]


def _means(frame: pd.DataFrame, notes: list[str]) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """The table of means, with the first run of each group, and the groups."""
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
