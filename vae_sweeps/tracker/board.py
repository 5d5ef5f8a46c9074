"""The facts that a sweep's dashboards need, read from its folders."""

from dataclasses import dataclass

from vae_sweeps.config.point import to_container
from vae_sweeps.runs import catalogue
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.tracker import address


@dataclass(frozen=True)
class Board:
    """The runs to show are those of group `sweep`, and `swept` are the keys that vary.

    `features` are those of the FID, and `prdc_features` those of precision and recall; None if no run has the score.
    `has_factors` says whether a run has metrics of disentanglement.
    """

    entity: str
    project: str
    sweep: str
    swept: tuple[str, ...]
    features: str | None
    prdc_features: str | None = None
    has_factors: bool = False


def board_of(sweep: SweepFolder, entity: str | None = None, project: str | None = None) -> Board:
    """The sweep's board; entity and project default to those of its runs. `entity` "" is the API key's default entity.

    Raises ValueError if the sweep has no runs.
    """
    folders = sweep.runs()
    if not folders:
        raise ValueError(f"{sweep.name}: has no runs; launch it first")
    link, settings = address.read_link(folders[0]), folders[0].read_launch_options().tracker
    content = to_container(folders[0].read_point())
    # The choices of a swept group differ in the class that they instantiate.
    swept = tuple(f"{key}._target_" if isinstance(content.get(key), dict) else key for key in sweep.swept())
    results = [folder.read_result() or {} for folder in folders]
    columns = [name for result in results for name in result.get("metrics", {})]

    def features_of(score: str) -> str | None:
        return next((catalogue.features_of(name) for name in columns if name.startswith(f"{score}/")), None)

    return Board(
        entity or link.get("entity") or settings.entity or "",
        project or link.get("project") or settings.project,
        sweep.read()["sweep"],
        swept,
        features_of("fid"),
        features_of("prdc"),
        any(name in columns for name in catalogue.names("factors")),
    )
