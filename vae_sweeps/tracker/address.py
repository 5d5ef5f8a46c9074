"""Where a run is on W&B, remembered in its folder."""

import json
from dataclasses import dataclass
from typing import Any

from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import files


@dataclass(frozen=True)
class Place:
    """Where on W&B a run is, or is to be: `entity` None is the key's own."""

    entity: str | None
    project: str
    id: str


def run_id(folder: RunFolder, salt: str) -> str:
    """W&B's id of the run: the end of its folder's name, and the salt that makes it new where W&B wants a new one."""
    return f"{folder.id}-{salt}" if salt else folder.id


def read_link(folder: RunFolder) -> dict[str, Any]:
    """What is known of the folder's run on W&B: entity, project, id, mode of the last attempt, last step sent."""
    try:
        return json.loads(folder.wandb_address.read_text())
    except (OSError, ValueError):
        return {}


def place(folder: RunFolder) -> Place:
    """Where the folder's run was last seen; to be asked only of one that has a link."""
    link = read_link(folder)
    return Place(link["entity"], link["project"], link["id"])


def write_link(folder: RunFolder, place: Place, **known: Any) -> None:
    """Remember where the run is on W&B, and what is `known` beside that; of another run's nothing is kept."""
    link = read_link(folder)
    if (link.get("project"), link.get("id")) != (place.project, place.id):
        link = {}
    entity = place.entity or link.get("entity")
    content = {**link, "entity": entity, "project": place.project, "id": place.id, **known}
    files.write_whole(folder.wandb_address, files.to_json(content) + "\n")
