"""The table of a sweep: one row a point, from the run folders alone or from what W&B has of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from vae_sweeps.analysis import dtypes
from vae_sweeps.analysis.dtypes import in_words
from vae_sweeps.config.identity import short_name
from vae_sweeps.config.keys import not_numbers
from vae_sweeps.config.schema import Point
from vae_sweeps.runs import catalogue
from vae_sweeps.runs.run_folder import RunFolder, all_runs, runs_folder
from vae_sweeps.runs.states import status
from vae_sweeps.runs.sweep_folder import find_sweep, known_sweeps
from vae_sweeps.system import files

_LEADING = ["run", "run_id", "status", "seed", "data", "arch", "likelihood"]
# No config columns: these, the metrics, those with a / in their names, and the counts of seeds.over.
_OF_THE_RUN = {"run", "run_id", "status", "n", "num_missing"}


class Results:
    """The table of a sweep: one row a point, metrics in nats per image; NaN where there is no number yet.

    `results("outputs")` reads the run folders, `results.from_wandb("entity/project", group="sweep")` what W&B has of
    them; of the same runs they are equal to the last digit.
    """

    def __call__(self, where: str | Path = "outputs", output_dir: str | Path = "outputs") -> pd.DataFrame:
        """One row a point: config columns, status, metrics in nats per image, time; NaN where there is no number yet.

        `where` is the name of a sweep in `output_dir`, a sweep's folder, a run's folder, or an output folder with all
        its runs. Raises ValueError, naming the sweeps that there are, if it is none of these.
        """
        folders, swept = find_runs(where, output_dir)
        return make_table(folders, swept)

    def from_wandb(self, path: str, group: str | None = None) -> pd.DataFrame:
        """The same table from W&B's project `path` ("entity/project"), where no files are at hand.

        `group` is a sweep's name; None means all runs of the project that vae-sweeps sent there.
        Raises ValueError, naming the groups that there are, if there are no such runs or W&B does not say.
        """
        from vae_sweeps.tracker.download import download  # here, since wandb is slow to import

        runs, swept = download(path, group)
        return table_of([Record(run.run, _flat(run.config), run.status, run.result) for run in runs], swept)


results = Results()


@dataclass(frozen=True)
class Record:
    """What a row is made of, wherever it was read."""

    run: str
    config: dict[str, Any]  # with dotted keys
    status: str
    result: Mapping[str, Any] | None


def find_runs(where: str | Path, output_dir: str | Path = "outputs") -> tuple[list[RunFolder], list[str]]:
    """The run folders that `where` means, and the swept keys if it is a sweep; see `results`."""
    path = Path(where)
    if (folder := find_sweep(where, output_dir)) is not None:
        return folder.runs(), folder.swept()
    if RunFolder(path).exists():
        return [RunFolder(path)], []
    if runs_folder(path).is_dir():
        return all_runs(path), []
    raise ValueError(f"{where}: no such sweep or folder; {known_sweeps(output_dir)}")


def make_table(folders: Sequence[RunFolder], swept: Sequence[str] = ()) -> pd.DataFrame:
    """The table of the runs in `folders`; `swept` keys get a column even if they do not vary."""
    return table_of([read_record(folder) for folder in folders if folder.exists()], swept)


def read_record(folder: RunFolder) -> Record:
    """What the run's folder says of it."""
    content = OmegaConf.to_container(OmegaConf.load(folder.config))
    assert isinstance(content, dict)
    result = folder.read_result()
    return Record(folder.name, _flat(content), status(folder, result), result)


def table_of(records: Sequence[Record], swept: Sequence[str] = ()) -> pd.DataFrame:
    """The table of `records`, in their order; each column's dtype depends on the schema or its values, not on what is
    missing, nor on whether a whole number was written as 1 or as 1.0."""
    known = {key for record in records for key in record.config}  # an architecture's own keys are not in all of them
    values = {key: {in_words(record.config[key]) for record in records if key in record.config} for key in known}
    varying = sorted(key for key in known if len(values[key]) > 1)
    varying = [key for key in varying if not _is_named(key, values[key])]
    keys = dict.fromkeys(["beta", "latent", *swept, *varying])
    config = [key for key in keys if key in known and key not in _LEADING]
    ambiguous = _ambiguous_features(record.result for record in records)
    rows = [_row(record, config, ambiguous) for record in records]
    metrics = catalogue.in_table({column for row in rows for column in row})
    columns = {}
    for name in [*_LEADING, *config, *metrics]:
        make = dtypes.config_column if name in config or name == "seed" else dtypes.column
        columns[name] = make(name, [row.get(name) for row in rows])
    return pd.DataFrame(columns)


def _is_named(key: str, targets: set[str]) -> bool:
    """Whether the columns data, arch and likelihood tell these targets apart."""
    names = {short_name(target) for target in targets}
    return key in ("data._target_", "arch._target_", "likelihood._target_") and len(names) == len(targets)


def config_columns(table: pd.DataFrame) -> list[str]:
    """The columns that say what the points are; the others say which run it is, how it ended and what came out."""
    names = [name for name in map(str, table.columns) if name not in _OF_THE_RUN and "/" not in name]
    return [name for name in names if catalogue.find(name) is None]


def _ambiguous_features(results: Iterable[Mapping[str, Any] | None]) -> set[str]:
    """Names under which these results have features of different weights."""
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
        **{key: in_words(v) if isinstance(v := config.get(key), list | dict) else v for key in columns},
    }
    if result is not None:
        row |= {key: result.get(key) for key in catalogue.names("run", "cost")}
        row |= {_metric_column(name, result, ambiguous): value for name, value in result.get("metrics", {}).items()}
    return row


def _metric_column(metric: str, result: Mapping[str, Any], ambiguous: set[str]) -> str:
    """The metric's column: scores of different features never share one, even where their names are the same."""
    features = catalogue.features_of(metric)
    if features not in ambiguous:
        return metric
    return metric.replace(f"/{features}/", f"/{features}-{result['features'][features]['weights']}/")


def reasons(folders: Iterable[RunFolder]) -> dict[str, list[str]]:
    """Why columns are empty where they are: a line -> the runs that it holds for."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        for column, reason in (folder.read_result() or {}).get("missing", {}).items():
            found.setdefault(f"{column}: {reason}", []).append(folder.name)
    return found


def _flat(config: Mapping[Any, Any]) -> dict[str, Any]:
    """A config with dotted keys, without what does not describe the point."""
    kept = {f.name for f in fields(Point)} - not_numbers()
    flat = _dotted({name: value for name, value in config.items() if name in kept})
    flat.pop("data.root", None)
    return flat


def _dotted(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            flat |= _dotted(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def to_file(table: pd.DataFrame, path: Path) -> None:
    """Write the table as Parquet or, by its ending, CSV; whole or not at all."""
    if path.suffix == ".csv":
        files.write_whole(path, table.to_csv(index=False))
        return
    # Parquet has one type a column: sigma may be a number in one row and a word in another.
    objects = [name for name in table if table[name].dtype == object]
    mixed = {name: "string" for name in objects if len({type(v) for v in table[name] if v is not None}) > 1}
    files.write_whole(path, table.astype(mixed).to_parquet(index=False))
