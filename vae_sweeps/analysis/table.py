"""The table of a sweep: one row per point, read from the run folders or from W&B."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from vae_sweeps.analysis import dtypes
from vae_sweeps.analysis.dtypes import in_words
from vae_sweeps.config.identity import short_name
from vae_sweeps.config.keys import dotted, not_numbers
from vae_sweeps.config.schema import Point
from vae_sweeps.runs import catalogue
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.known_results import KnownResults
from vae_sweeps.runs.run_folder import RunFolder, runs_folder
from vae_sweeps.runs.states import status
from vae_sweeps.runs.sweep_folder import find_sweep, known_sweeps
from vae_sweeps.system import files
from vae_sweeps.system.files import DamagedError
from vae_sweeps.system.logs import warn_once

_LEADING = ["run", "run_id", "status", "seed", "data", "arch", "likelihood"]
# Columns that are not config columns; metrics and names that contain / are not, either.
_OF_THE_RUN = {"run", "run_id", "status", "n", "num_missing"}
# Columns of the settings that metrics were made with: evaluated.<part>.<setting>.
_SETTINGS = "evaluated."


class Results:
    """The table of a sweep: one row per point, metrics in nats per image; NaN where there is no number yet.

    `results("outputs")` reads the run folders, and `results.from_wandb("entity/project", group="sweep")` reads W&B.
    For the same runs, the two tables are equal to the last digit.
    """

    def __call__(self, where: str | Path = "outputs", output_dir: str | Path = "outputs") -> pd.DataFrame:
        """One row per point: config columns, status, metrics in nats per image, time; NaN where there is no number yet.

        `where` is the name of a sweep in `output_dir`, a sweep's folder, a run's folder, or an output folder with all
        its runs. Raises ValueError, which names the existing sweeps, if it is none of these.
        """
        folders, swept = find_runs(where, output_dir)
        return make_table(folders, swept)

    def from_wandb(self, path: str, group: str | None = None) -> pd.DataFrame:
        """The same table from the W&B project `path` ("entity/project"); no run folders are needed.

        `group` is a sweep's name; None means all runs that vae-sweeps sent to the project. Raises ValueError, which
        names the existing groups, if there are no such runs or W&B cannot be reached.
        """
        from vae_sweeps.tracker.download import download  # imported late: wandb is slow to import

        runs, swept = download(path, group)
        return table_of([Record(run.run, _flat(run.config), run.status, run.result) for run in runs], swept)


results = Results()


@dataclass(frozen=True)
class Record:
    """The content of one row, from a run folder or from W&B."""

    run: str
    config: dict[str, Any]  # with dotted keys
    status: str
    result: Mapping[str, Any] | None


def find_runs(where: str | Path, output_dir: str | Path = "outputs") -> tuple[list[RunFolder], list[str]]:
    """Find the run folders that `where` names, and the swept keys if it is a sweep; see `results`."""
    path = Path(where)
    if (folder := find_sweep(where, output_dir)) is not None:
        return folder.runs(), folder.swept()
    if RunFolder(path).exists():
        return [RunFolder(path)], []
    if runs_folder(path).is_dir():
        return all_runs(path), []
    raise ValueError(f"{where}: no such sweep or folder; {known_sweeps(output_dir)}")


def make_table(
    folders: Sequence[RunFolder],
    swept: Sequence[str] = (),
    results: KnownResults | None = None,
    *,
    all_settings: bool = False,
) -> pd.DataFrame:
    """Make the table of the runs in `folders`; see `table_of`. `results` are those that have been read already."""
    records = read_records(folders, KnownResults() if results is None else results)
    return table_of(records, swept, all_settings=all_settings)


def read_records(folders: Iterable[RunFolder], results: KnownResults) -> list[Record]:
    """The records of the runs in `folders`, without those that have no config or a damaged one."""
    return [record for folder in folders if (record := read_record(folder, results)) is not None]


def read_record(folder: RunFolder, results: KnownResults) -> Record | None:
    """Read a run's config, status and result from its folder.

    Returns None if it has no config, or, with a warning, a damaged one.
    """
    try:
        content = folder.read_config()
    except FileNotFoundError:
        return None
    except DamagedError as error:
        warn_once(f"{error}; the run is left out")
        return None
    result = results.of(folder)
    return Record(folder.name, _flat(content), status(folder, result), result)


def table_of(records: Sequence[Record], swept: Sequence[str] = (), *, all_settings: bool = False) -> pd.DataFrame:
    """Make the table of `records`, in their order.

    `swept` keys get a column even if they do not vary, and with `all_settings` so do the settings of the evaluation.
    A column's dtype depends on the schema or on its values, but not on missing values, nor on whether a whole number
    was written as 1 or as 1.0.
    """
    known = {key for record in records for key in record.config}  # the keys of an architecture are missing in others
    values = {key: {in_words(record.config[key]) for record in records if key in record.config} for key in known}
    varying = sorted(key for key in known if len(values[key]) > 1)
    varying = [key for key in varying if not _is_named(key, values[key])]
    keys = dict.fromkeys(["beta", "latent", *swept, *varying])
    config = [key for key in keys if key in known and key not in _LEADING]
    for record in records:
        catalogue.declare(record.result or {})
    ambiguous = _ambiguous_features(record.result for record in records)
    made_with = _settings([record.result for record in records], is_all=all_settings)
    rows = [_row(record, config, ambiguous) | settings for record, settings in zip(records, made_with, strict=True)]
    settings = list(dict.fromkeys(key for one in made_with for key in one))
    metrics = catalogue.in_table({column for row in rows for column in row})
    columns = {}
    for name in [*_LEADING, *config, *settings, *metrics]:
        make = dtypes.config_column if name in config or name in settings or name == "seed" else dtypes.column
        columns[name] = make(name, [row.get(name) for row in rows])
    return pd.DataFrame(columns)


def _is_named(key: str, targets: set[str]) -> bool:
    """Whether the columns data, arch and likelihood already distinguish these targets."""
    names = {short_name(target) for target in targets}
    return key in ("data._target_", "arch._target_", "likelihood._target_") and len(names) == len(targets)


def config_columns(table: pd.DataFrame) -> list[str]:
    """The columns that describe the points; the others hold the run's name, its status and its results."""
    names = [name for name in map(str, table.columns) if name not in _OF_THE_RUN and "/" not in name]
    return [name for name in names if catalogue.find(name) is None and not name.startswith(_SETTINGS)]


def setting_columns(table: pd.DataFrame) -> list[str]:
    """The columns of the settings that the metrics were made with, such as `evaluated.likelihood.iwae_samples`."""
    return [name for name in map(str, table.columns) if name.startswith(_SETTINGS)]


def _settings(results: Sequence[Mapping[str, Any] | None], *, is_all: bool) -> list[dict[str, Any]]:
    """The settings of each result's metrics: those that differ between results that have the part, or all."""
    found = [dotted((result or {}).get("evaluated", {}), _SETTINGS) for result in results]
    values: dict[str, set[str]] = {}
    for one in found:
        for key, value in one.items():
            values.setdefault(key, set()).add(in_words(value))
    shown = [key for key in values if is_all or len(values[key]) > 1]
    return [{key: "null" if one[key] is None else _plain(one[key]) for key in shown if key in one} for one in found]


def _plain(value: Any) -> Any:
    return in_words(value) if isinstance(value, list | dict) else value


def _ambiguous_features(results: Iterable[Mapping[str, Any] | None]) -> set[str]:
    """Names that these results use for features with different weights."""
    weights: dict[str, set[str]] = {}
    for result in results:
        for name, about in (result or {}).get("features", {}).items():
            weights.setdefault(name, set()).add(about["weights"])
    return {name for name, found in weights.items() if len(found) > 1}


def _row(record: Record, columns: Sequence[str], ambiguous: set[str]) -> dict[str, Any]:
    config, result = record.config, record.result
    row = {
        "run": record.run,
        "run_id": record.run.rsplit("-", 1)[-1],
        "status": record.status,
        "seed": config["seed"],
        **{group: short_name(str(config[f"{group}._target_"])) for group in ("data", "arch", "likelihood")},
        **{key: _plain(config.get(key)) for key in columns},
    }
    if result is not None:
        row |= {key: result.get(key) for key in catalogue.names("run", "cost")}
        row |= {_metric_column(name, result, ambiguous): value for name, value in result.get("metrics", {}).items()}
    return row


def _metric_column(metric: str, result: Mapping[str, Any], ambiguous: set[str]) -> str:
    """The metric's column; scores of different features never share a column, even if the features have one name."""
    features = catalogue.features_of(metric)
    if features not in ambiguous:
        return metric
    return metric.replace(f"/{features}/", f"/{features}-{result['features'][features]['weights']}/")


def reasons(results: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Map each reason for an empty column, as one line, to its runs. `results` maps runs to their results."""
    runs: dict[str, list[str]] = {}
    for run, result in results.items():
        for column, reason in result.get("missing", {}).items():
            runs.setdefault(f"{column}: {reason}", []).append(run)
    return runs


def _flat(config: Mapping[Any, Any]) -> dict[str, Any]:
    """Flatten a config to dotted keys, without the keys that do not change the point's numbers."""
    kept = {f.name for f in fields(Point)} - not_numbers()
    flat = dotted({name: value for name, value in config.items() if name in kept})
    flat.pop("data.root", None)
    return flat


def to_file(table: pd.DataFrame, path: Path) -> None:
    """Write the table as CSV if the path ends in .csv, otherwise as Parquet; completely or not at all."""
    if path.suffix == ".csv":
        files.write_whole(path, table.to_csv(index=False))
        return
    # Parquet has one type per column, but sigma may be a number in one row and a word in another.
    objects = [name for name in table if table[name].dtype == object]
    mixed = {name: "string" for name in objects if len({type(v) for v in table[name] if v is not None}) > 1}
    files.write_whole(path, table.astype(mixed).to_parquet(index=False))
