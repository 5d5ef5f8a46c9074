"""What a run folder looks like on W&B: its identity, rows, pictures and summary. Pure functions of the folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vae_sweeps import store
from vae_sweeps.config import read_point, to_container
from vae_sweeps.points import short_name

# W&B's copy of what a result says beside its metrics; the rest is of use to the project only.
_NOT_SHOWN = {"metrics", "missing", "evaluated", "evaluation_s", "kl_per_latent"}
# Which W&B run a folder belongs to, and how much of it is known to be there.
_LINK = "wandb.json"
PICTURES = ("reconstructions", "samples", "interpolations", "traversal", "latent_map", "neighbours")


@dataclass(frozen=True)
class Place:
    """Where on W&B a run is, or is to be: `entity` None is the key's own."""

    entity: str | None
    project: str
    id: str


def run_id(folder: Path, salt: str) -> str:
    """W&B's id of the run: the end of its folder's name, and the salt that makes it new where W&B wants a new one."""
    own = folder.name.rsplit("-", 1)[-1]
    return f"{own}-{salt}" if salt else own


def title(config: Mapping[str, Any], swept: Sequence[str]) -> str:
    """`beta=0.01 latent=10`: what tells this run from the others of its sweep."""
    keys = dict.fromkeys([*(key for key in swept if key not in ("beta", "latent")), "beta", "latent"])
    return " ".join(f"{key}={_in_words(config, key)}" for key in keys)


def _in_words(config: Mapping[str, Any], key: str) -> str:
    value: Any = config
    for name in key.replace("/", ".").split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):
        return short_name(str(value.get("_target_", "")))
    return f"{value:g}" if isinstance(value, float) else str(value)


def arguments(folder: Path, sweep_folder: Path | None, tags: Sequence[str], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Group, name, tags and config for `wandb.init`: plain containers, the resolved config, and `facts` beside it."""
    config = to_container(read_point(folder / store.CONFIG))
    sweep = store.read_sweep(sweep_folder) if sweep_folder is not None else {"sweep": None, "swept": [], "runs": []}
    place = sweep["runs"].index(folder.name) if folder.name in sweep["runs"] else None
    own = {"run": folder.name, "sweep": sweep["sweep"], "swept": sweep["swept"], "place": place}
    groups = [short_name(str(config[group]["_target_"])) for group in ("data", "arch", "likelihood")]
    return {
        "group": sweep["sweep"],
        "job_type": "train",
        "name": title(config, sweep["swept"]),
        "tags": list(
            dict.fromkeys([*groups, *(f"{key}={_in_words(config, key)}" for key in ("beta", "latent")), *tags])
        ),
        "config": {**config, **facts, "vae_sweeps": own},
    }


def facts_of(result: Mapping[str, Any] | None) -> dict[str, Any]:
    """What stands beside the config on W&B, of a run that has ended."""
    return {name: (result or {})[name] for name in ("beta_nats", "num_params", "git_commit") if name in (result or {})}


def history_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of metrics.jsonl as one of W&B's: `step` is `global_step` there, and what is no number is left out."""
    kept = {name: value for name, value in row.items() if name not in ("step", "num_steps") and value is not None}
    kept = {n: [x for x in v if x is not None] if isinstance(v, list) else v for n, v in kept.items()}
    return {"global_step": row["step"], **{name: value for name, value in kept.items() if value != []}}


def pictures_of_row(folder: Path, row: Mapping[str, Any]) -> dict[str, Path]:
    """The pictures that belong to a row: those of its epoch, or of the end."""
    if row["step"] == row["num_steps"]:
        where = folder / "pictures"
    elif float(row["epoch"]).is_integer():
        where = folder / "pictures" / f"epoch-{row['epoch']:04.0f}"
    else:
        return {}
    return {f"pictures/{name}": path for name in PICTURES if (path := where / f"{name}.png").exists()}


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """The run's columns: its metrics, and how they came about."""
    return {name: value for name, value in result.items() if name not in _NOT_SHOWN} | result.get("metrics", {})


def result_of(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The inverse of `summary`, as far as the table needs it; None of a run that has not ended."""
    if "status" not in summary:
        return None
    return {**summary, "metrics": {name: value for name, value in summary.items() if "/" in name}}


def read_link(folder: Path) -> dict[str, Any]:
    """What is known of the folder's run on W&B: entity, project, id, mode of the last attempt, last step sent."""
    try:
        return json.loads((folder / _LINK).read_text())
    except (OSError, ValueError):
        return {}


def place(folder: Path) -> Place:
    """Where the folder's run was last seen; to be asked only of one that has a link."""
    link = read_link(folder)
    return Place(link["entity"], link["project"], link["id"])


def write_link(folder: Path, place: Place, **known: Any) -> None:
    """Remember where the run is on W&B, and what is `known` beside that; of another run's nothing is kept."""
    link = read_link(folder)
    if (link.get("project"), link.get("id")) != (place.project, place.id):
        link = {}
    entity = place.entity or link.get("entity")
    content = {**link, "entity": entity, "project": place.project, "id": place.id, **known}
    store.write_whole(folder / _LINK, store.to_json(content) + "\n")
