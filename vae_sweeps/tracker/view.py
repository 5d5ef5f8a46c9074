"""Converts a run folder's rows, pictures and summary to the form of a tracker. Pure functions of the folder."""

from collections.abc import Mapping, Sequence
from typing import Any

from vae_sweeps.config.identity import short_name
from vae_sweeps.config.point import to_container
from vae_sweeps.runs.catalogue import PICTURES
from vae_sweeps.runs.pictures import Picture
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder

# Entries of a result that are no columns on W&B; the metrics become columns of their own.
_NOT_SHOWN = {"metrics", "missing", "evaluated", "evaluation_s", "kl_per_latent", "factors", "rows"}


def title(config: Mapping[str, Any], swept: Sequence[str]) -> str:
    """`beta=0.01 latent=10`: the values that distinguish this run from the others of its sweep."""
    return " ".join(f"{key}={in_words(config, key)}" for key in keys_of_title(swept))


def keys_of_title(swept: Sequence[str]) -> list[str]:
    """The keys whose values are in a title: the swept ones, and beta and latent at the end."""
    return list(dict.fromkeys([*(key for key in swept if key not in ("beta", "latent")), "beta", "latent"]))


def value_of(config: Mapping[str, Any], key: str) -> Any:
    """The value of a key, such as `optim.lr`, in a config of nested dicts; None if it has no such key."""
    value: Any = config
    for name in key.replace("/", ".").split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def in_words(config: Mapping[str, Any], key: str) -> str:
    """The value of a key as people read it; for a group, the name of its choice."""
    value = value_of(config, key)
    if isinstance(value, Mapping):
        return short_name(str(value.get("_target_", "")))
    return f"{value:g}" if isinstance(value, float) else str(value)


def arguments(
    folder: RunFolder, sweep: SweepFolder | None, tags: Sequence[str], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Group, name, tags and config for `wandb.init`: plain containers; the config is the resolved one plus `facts`."""
    config = to_container(folder.read_point())
    content = sweep.read() if sweep is not None else {"sweep": None, "swept": [], "runs": []}
    place = content["runs"].index(folder.name) if folder.name in content["runs"] else None
    origin = {"run": folder.name, "sweep": content["sweep"], "swept": content["swept"], "place": place}
    groups = [short_name(str(config[group]["_target_"])) for group in ("data", "arch", "likelihood")]
    return {
        "group": content["sweep"],
        "job_type": "train",
        "name": title(config, content["swept"]),
        "tags": list(
            dict.fromkeys([*groups, *(f"{key}={in_words(config, key)}" for key in ("beta", "latent")), *tags])
        ),
        "config": {**config, **facts, "vae_sweeps": origin},
    }


def facts_of(result: Mapping[str, Any] | None) -> dict[str, Any]:
    """The facts of a run that has ended which W&B shows beside its config."""
    return {name: (result or {})[name] for name in ("beta_nats", "num_params", "git_commit") if name in (result or {})}


def history_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of metrics.jsonl as a W&B row: `step` becomes `global_step`, and values that are null are left out."""
    kept = {name: value for name, value in row.items() if name not in ("step", "num_steps") and value is not None}
    kept = {n: [x for x in v if x is not None] if isinstance(v, list) else v for n, v in kept.items()}
    return {"global_step": row["step"], **{name: value for name, value in kept.items() if value != []}}


def pictures_of_row(folder: RunFolder, row: Mapping[str, Any]) -> dict[str, Picture]:
    """The pictures of a row: those of its epoch, or for the last row those of the finished run."""
    is_last = row["step"] == row["num_steps"]
    if not is_last and not float(row["epoch"]).is_integer():
        return {}
    found = folder.pictures_at(None if is_last else int(row["epoch"]))
    return {f"pictures/{name}": found[name] for name in PICTURES if name in found}


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """The run's columns: its metrics, status and other facts of the result."""
    return {name: value for name, value in result.items() if name not in _NOT_SHOWN} | result.get("metrics", {})


def result_of(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The inverse of `summary`, as far as the table needs it; None if the run has not ended."""
    if "status" not in summary:
        return None
    return {**summary, "metrics": {name: value for name, value in summary.items() if "/" in name}}
