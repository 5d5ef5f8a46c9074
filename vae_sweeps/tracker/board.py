"""What a sweep's dashboards are about, from its folders."""

from dataclasses import dataclass
from pathlib import Path

from vae_sweeps.config.point import read_point, to_container
from vae_sweeps.runs import catalogue, run_folder
from vae_sweeps.runs.sweep_folder import read_sweep, runs_of_sweep
from vae_sweeps.tracker import address


@dataclass(frozen=True)
class Board:
    """Whose runs to show: those of group `sweep`; `swept` are config keys that vary, `features` those of the FID."""

    entity: str
    project: str
    sweep: str
    swept: tuple[str, ...]
    features: str | None


def board_of(sweep_folder: Path, entity: str | None = None, project: str | None = None) -> Board:
    """The sweep's board; what is not given is as its runs were shown, or are to be. `entity` "" is the key's own.

    Raises ValueError if the sweep has no runs.
    """
    folders, sweep = runs_of_sweep(sweep_folder), read_sweep(sweep_folder)
    if not folders:
        raise ValueError(f"{sweep['sweep']}: has no runs; launch it first")
    link, point = address.read_link(folders[0]), read_point(folders[0] / run_folder.CONFIG)
    content = to_container(point)
    # A swept group is told apart by what it instantiates.
    swept = tuple(f"{key}._target_" if isinstance(content.get(key), dict) else key for key in sweep["swept"])
    results = [run_folder.read_result(folder) or {} for folder in folders]
    columns = (name for result in results for name in result.get("metrics", {}) if name.startswith("fid/"))
    features = next(map(catalogue.features_of, columns), None)
    return Board(
        entity or link.get("entity") or point.tracker.entity or "",
        project or link.get("project") or point.tracker.project,
        sweep["sweep"],
        swept,
        features,
    )
