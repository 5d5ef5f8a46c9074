"""A sweep's dashboards as code: a workspace and a report with the same sections, for the runs of one W&B group."""

import json
import re
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vae_sweeps.tracker import account, server
from vae_sweeps.tracker.board import Board
from vae_sweeps.tracker.sections import MAX_RUNS, grouping, library, sections

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2.interface import Report
    from wandb_workspaces.workspaces import Workspace

_INTRODUCTION = (
    "One run is one trained VAE. All numbers are in nats per image unless they say otherwise, and the ELBO is at "
    "beta = 1 whatever the run was trained with: elbo = log_px - kl, where log_px = log p(x|z)."
)
# The grid in a W&B report is 24 units wide.
_WIDTH, _HEIGHT = 24, 9


def workspace(board: Board) -> "Workspace":
    """The sweep's workspace, unsaved. Raises ValueError without the extra `dashboard`."""
    ws, _ = library()
    return ws.Workspace(
        entity=board.entity,
        project=board.project,
        name=_without_symbols(board.sweep),
        sections=[
            ws.Section(
                name=section.name,
                panels=section.panels,
                is_open=True,
                layout_settings=ws.SectionLayoutSettings(
                    columns=(columns := _columns(len(section.panels))), rows=-(-len(section.panels) // columns)
                ),
                panel_settings=ws.SectionPanelSettings(x_axis="global_step"),
            )
            for section in sections(board)
        ],
        settings=ws.WorkspaceSettings(x_axis="global_step", max_runs=MAX_RUNS),
        # A workspace has one set of runs for all its sections, so all sections are grouped.
        runset_settings=ws.RunsetSettings(
            filters=_of_group(board.sweep), groupby=[ws.Config(key) for key in grouping(board)]
        ),
    )


def report(board: Board) -> "Report":
    """The sweep's report, unsaved. Raises ValueError without the extra `dashboard`."""
    return _report(board, entity=board.entity, project=board.project)


def specification(board: Board) -> dict[str, Any]:
    """What is sent to the server, as JSON: identical from call to call, and built without a server.

    It lacks only the server's id of the project in the report's sets of runs.
    Raises ValueError without the extra `dashboard`.
    """
    # Converting a set of runs that names its project would ask the server for that id.
    models = {"workspace": workspace(board)._to_model(), "report": _report(board, entity="", project="")._to_model()}
    specs = {name: model.spec.model_dump_json(by_alias=True, exclude_none=True) for name, model in models.items()}
    return {
        name: {"name": models[name].display_name, "spec": _renumbered(json.loads(specs[name]), {})} for name in specs
    }


def save(board: Board) -> list[str]:
    """Save a new workspace and a new report on the server and return their URLs. The project must exist.

    Raises ValueError if the extra `dashboard`, the API key or the project is missing, or the server does not answer.
    """
    library()
    account.require_key("W&B")
    try:
        board = replace(board, entity=board.entity or server.default_entity())
        return _save(board)
    except Exception as error:
        raise ValueError(f"W&B: {account.base_url()}: {server.in_short(error)}") from error


def _save(board: Board) -> list[str]:
    # The report first: it fails if the project does not exist, and then nothing has been saved.
    saved = report(board).save()
    return [workspace(board).save().url, saved.url]


def _report(board: Board, entity: str, project: str) -> Any:
    _, wr = library()
    blocks = [wr.P(_INTRODUCTION)]
    for section in sections(board):
        columns = _columns(len(section.panels))
        for i, panel in enumerate(section.panels):
            width = _WIDTH // columns
            panel.layout = wr.Layout(x=i % columns * width, y=i // columns * _HEIGHT, w=width, h=_HEIGHT)
        runs = wr.Runset(
            entity=entity,
            project=project,
            name=board.sweep,
            filters=_of_group(board.sweep),
            groupby=[f"config.{key}" for key in grouping(board)] if section.grouped else [],
        )
        blocks += [wr.H2(section.name), wr.P(section.look_for), wr.PanelGrid(runsets=[runs], panels=section.panels)]
    return wr.Report(
        entity=board.entity,
        project=board.project,
        title=f"Sweep {board.sweep}",
        description=f"VAEs that differ in {', '.join(board.swept)}." if board.swept else "",
        blocks=blocks,
        width="fluid",
    )


def _columns(panels: int) -> int:
    return 3 if panels % 3 == 0 else min(panels, 2)


def _of_group(sweep: str) -> str:
    """The filter as a Python expression. The name is written in escapes, because the library doubles every = in the
    text, turns < into <=, and does not escape quotes."""
    name = re.sub(r"[^\w .-]", lambda match: f"\\U{ord(match[0]):08x}", sweep)
    return f"Metric('Group') == '{name}'"


def _without_symbols(name: str) -> str:
    """`name` with symbols replaced: the library refuses =, + and other symbols along with emojis in workspace names."""
    return "".join("-" if unicodedata.category(c).startswith("S") else c for c in name)


def _renumbered(value: Any, seen: dict[str, str]) -> Any:
    """`value` with the library's random ids replaced by numbers in order of appearance."""
    if isinstance(value, list):
        return [_renumbered(v, seen) for v in value]
    if not isinstance(value, dict):
        return value
    return {
        k: seen.setdefault(v, f"id-{len(seen)}") if k in ("id", "__id__") and v else _renumbered(v, seen)
        for k, v in value.items()
    }
