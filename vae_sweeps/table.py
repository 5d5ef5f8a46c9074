"""The table of a sweep: one row a point, from the run folders alone."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from vae_sweeps import store
from vae_sweeps.config import not_numbers
from vae_sweeps.points import short_name

METRICS = [f"{split}/{name}" for split in ("train", "val", "test") for name in ("elbo", "log_px", "kl")]
METRICS += [f"test/{name}" for name in ("bits_per_dim", "active_units", "iwae", "iwae_se", "mi", "marginal_kl")]
METRICS += ["test/collapsed", "test/psnr", "test/ssim", "probe/accuracy", "probe/pixels"]
METRICS += ["neighbour/distance", "neighbour/ratio"]
# Scores of features stand behind these: fid/<features>/<samples>, kid/<features>/<samples>.
_SCORES, _SAMPLES = ("fid", "kid"), ("prior", "reconstruction", "mixture", "floor")
_LEADING = ["run", "run_id", "status", "seed", "data", "arch", "likelihood"]
_TRAILING = ["beta_nats", "sigma", "num_params", *METRICS]
_COST = ["step", "time_s", "images_per_s", "git_commit"]


def results(where: str | Path = "outputs") -> pd.DataFrame:
    """One row a point: config columns, status, metrics in nats per image, time; NaN where there is no number yet.

    `where` is a sweep's name (of ./outputs), a sweep's folder, a run's folder, or an output folder with all its runs.
    Raises ValueError, naming the sweeps that there are, if it is none of these.
    """
    folders, swept = find_runs(where)
    return make_table(folders, swept)


def find_runs(where: str | Path, output_dir: str | Path = "outputs") -> tuple[list[Path], list[str]]:
    """The run folders that `where` means, and the swept keys if it is a sweep; see `results`."""
    path = Path(where)
    if (folder := store.find_sweep(where, output_dir)) is not None:
        return store.runs_of_sweep(folder), store.read_sweep(folder)["swept"]
    if (path / store.CONFIG).exists():
        return [path], []
    if store.runs_folder(path).is_dir():
        return sorted(config.parent for config in store.runs_folder(path).glob(f"*/{store.CONFIG}")), []
    raise ValueError(f"{where}: no such sweep or folder; {store.known_sweeps(output_dir)}")


def make_table(folders: Sequence[Path], swept: Sequence[str] = ()) -> pd.DataFrame:
    """The table of the runs in `folders`; `swept` keys get a column even if they do not vary."""
    configs = {folder: _flat(folder) for folder in folders if (folder / store.CONFIG).exists()}
    shared = set.intersection(*(set(config) for config in configs.values())) if configs else set()
    varying = sorted(k for k in shared if len({str(config[k]) for config in configs.values()}) > 1)
    varying = [key for key in varying if not key.endswith("._target_")]  # the columns data, arch, likelihood say it
    keys = dict.fromkeys(["beta", "latent", *swept, *varying])
    columns = [key for key in keys if key in shared and key not in _LEADING]
    results = {folder: store.read_result(folder) for folder in configs}
    ambiguous = _ambiguous_features(results.values())
    rows = [_row(folder, config, columns, results[folder], ambiguous) for folder, config in configs.items()]
    scores = _in_order({column for row in rows for column in row if column.split("/")[0] in _SCORES})
    frame = pd.DataFrame(rows, columns=pd.Index([*_LEADING, *columns, *_TRAILING, *scores, *_COST]))
    return frame.astype({"test/collapsed": "boolean"})


def _ambiguous_features(results: Iterable[Mapping[str, Any] | None]) -> set[str]:
    """Names under which these results have features of different weights."""
    weights: dict[str, set[str]] = {}
    for result in results:
        for name, about in (result or {}).get("features", {}).items():
            weights.setdefault(name, set()).add(about["weights"])
    return {name for name, found in weights.items() if len(found) > 1}


def _in_order(scores: Iterable[str]) -> list[str]:
    """fid before kid, by features, and from prior to floor."""

    def place(column: str) -> tuple[int, str, int]:
        score, features, samples = column.split("/")
        return _SCORES.index(score), features, _SAMPLES.index(samples)

    return sorted(scores, key=place)


def _row(
    folder: Path,
    config: Mapping[str, Any],
    columns: Sequence[str],
    result: Mapping[str, Any] | None,
    ambiguous: set[str],
) -> dict[str, Any]:
    row = {
        "run": folder.name,
        "run_id": folder.name.rsplit("-", 1)[-1],
        "status": store.status(folder, result),
        "seed": config["seed"],
        **{group: short_name(str(config[f"{group}._target_"])) for group in ("data", "arch", "likelihood")},
        **{key: str(config[key]) if isinstance(config[key], list) else config[key] for key in columns},
    }
    if result is not None:
        row |= {key: result.get(key) for key in ("beta_nats", "sigma", "num_params", *_COST)}
        row |= {_column(name, result, ambiguous): value for name, value in result.get("metrics", {}).items()}
    return row


def _column(metric: str, result: Mapping[str, Any], ambiguous: set[str]) -> str:
    """The metric's column: scores of different features never share one, even where their names are the same."""
    score, _, rest = metric.partition("/")
    features, _, samples = rest.partition("/")
    if score in _SCORES and features in ambiguous:
        return f"{score}/{features}-{result['features'][features]['weights']}/{samples}"
    return metric


def reasons(folders: Iterable[Path]) -> dict[str, list[str]]:
    """Why columns are empty where they are: a line -> the runs that it holds for."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        for column, reason in (store.read_result(folder) or {}).get("missing", {}).items():
            found.setdefault(f"{column}: {reason}", []).append(folder.name)
    return found


def _flat(folder: Path) -> dict[str, Any]:
    """A run's config with dotted keys, without what does not describe the point."""
    content = OmegaConf.to_container(OmegaConf.load(folder / store.CONFIG))
    assert isinstance(content, dict)
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": v for inner, v in value.items()}
        else:
            flat[str(name)] = value
    skipped = not_numbers()
    return {k: v for k, v in flat.items() if k.split(".")[0] not in skipped and k != "data.root"}


def to_file(table: pd.DataFrame, path: Path) -> None:
    """Write the table as Parquet or, by its ending, CSV; whole or not at all."""
    if path.suffix == ".csv":
        store.write_whole(path, table.to_csv(index=False))
        return
    # Parquet has one type a column: sigma may be a number in one row and a word in another.
    mixed = {name: "string" for name in table if len({type(v) for v in table[name] if v is not None}) > 1}
    store.write_whole(path, table.astype(mixed).to_parquet(index=False))
