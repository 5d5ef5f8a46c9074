"""The address of a run on W&B, stored in the run folder."""

import json
from dataclasses import dataclass
from typing import Any

from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import files


@dataclass(frozen=True)
class Place:
    """The address of a run on W&B, sent or not; `entity` None means the default entity of the API key."""

    entity: str | None
    project: str
    id: str


def run_id(folder: RunFolder, salt: str) -> str:
    """The run's id on W&B: the end of its folder's name plus the salt, which gives a new id after a run was deleted."""
    return f"{folder.id}-{salt}" if salt else folder.id


def read_link(folder: RunFolder) -> dict[str, Any]:
    """The stored facts about the run on W&B: entity, project, id, mode of the last attempt, last step sent."""
    try:
        link = json.loads(folder.wandb_address.read_bytes())
    except (OSError, ValueError):
        return {}
    return link if isinstance(link, dict) else {}


def place(folder: RunFolder) -> Place:
    """The address that the folder stores; the folder must have one."""
    link = read_link(folder)
    return Place(link["entity"], link["project"], link["id"])


def write_link(folder: RunFolder, place: Place, **known: Any) -> None:
    """Store the run's address and the facts in `known`; older facts are kept only if the address is the same."""
    link = read_link(folder)
    if (link.get("project"), link.get("id")) != (place.project, place.id):
        link = {}
    entity = place.entity or link.get("entity")
    content = {**link, "entity": entity, "project": place.project, "id": place.id, **known}
    files.write_whole(folder.wandb_address, files.to_json(content) + "\n")
