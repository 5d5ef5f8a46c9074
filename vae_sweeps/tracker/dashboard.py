"""A sweep's dashboards as code: a workspace and a report with the same sections, for the runs of one W&B group."""

import json
import re
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vae_sweeps.runs import catalogue
from vae_sweeps.runs.catalogue import with_unit
from vae_sweeps.tracker import account, server
from vae_sweeps.tracker.board import Board

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2.interface import Report
    from wandb_workspaces.workspaces import Workspace

_INTRODUCTION = (
    "One run is one trained VAE. All numbers are in nats per image unless they say otherwise, and the ELBO is at "
    "beta = 1 whatever the run was trained with: elbo = log_px - kl, where log_px = log p(x|z)."
)
# How many of the filtered runs W&B draws; its default is 10.
_MAX_RUNS = 100
# The grid in a W&B report is 24 units wide.
_WIDTH, _HEIGHT = 24, 9


@dataclass(frozen=True)
class _Section:
    """A section of both dashboards; `grouped` draws runs that differ only in the seed as one."""

    name: str
    look_for: str
    panels: list[Any]
    grouped: bool = True


def workspace(board: Board) -> "Workspace":
    """The sweep's workspace, unsaved. Raises ValueError without the extra `dashboard`."""
    ws, _ = _library()
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
            for section in _sections(board)
        ],
        settings=ws.WorkspaceSettings(x_axis="global_step", max_runs=_MAX_RUNS),
        # A workspace has one set of runs for all its sections, so all sections are grouped.
        runset_settings=ws.RunsetSettings(
            filters=_of_group(board.sweep), groupby=[ws.Config(key) for key in _grouping(board)]
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
    _library()
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


def _library() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ModuleNotFoundError as error:
        raise ValueError("dashboard: needs the extra of that name; pip install 'vae-sweeps[dashboard]'") from error
    return ws, wr


def _report(board: Board, entity: str, project: str) -> Any:
    _, wr = _library()
    blocks = [wr.P(_INTRODUCTION)]
    for section in _sections(board):
        columns = _columns(len(section.panels))
        for i, panel in enumerate(section.panels):
            width = _WIDTH // columns
            panel.layout = wr.Layout(x=i % columns * width, y=i // columns * _HEIGHT, w=width, h=_HEIGHT)
        runs = wr.Runset(
            entity=entity,
            project=project,
            name=board.sweep,
            filters=_of_group(board.sweep),
            groupby=[f"config.{key}" for key in _grouping(board)] if section.grouped else [],
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


def _sections(board: Board) -> list[_Section]:
    """The sections of both dashboards, in order; each call makes new panels, because a report sets their layout."""
    _, wr = _library()
    keys = _grouping(board) or board.swept
    columns = {key: wr.Config(key) for key in board.swept}
    metrics = ["test/elbo", "test/kl", "test/active_units"]
    metrics += [f"fid/{board.features}/prior"] if board.features else []
    columns |= {catalogue.label(name): wr.SummaryMetric(name) for name in metrics}
    return [
        _Section(
            "ELBO and its terms",
            "Look for curves that have flattened (the training was long enough), and for a training ELBO that keeps "
            "rising while the validation ELBO falls: that is overfitting. A KL near 0 means that the latents carry "
            "nothing about the image. A band spans the lowest and highest of what a line averages, such as seeds.",
            [
                _line("train/elbo", "ELBO, training"),
                _line("val/elbo", "ELBO, validation"),
                _line("val/log_px", "Reconstruction: log p(x|z), validation"),
                _line("val/kl", "KL to the prior, validation"),
                _line("val/bits_per_dim", "Bound in bits per dimension, validation"),
            ],
        ),
        _Section(
            "Rate and distortion",
            "Look for the curve that the runs trace: a larger KL (rate) buys a higher log p(x|z), that is, a lower "
            "distortion, and a larger beta moves a run to the left. A run below the curve is worse at its rate.",
            [
                _scatter(
                    (f"rate = {with_unit('test/kl')}", wr.SummaryMetric("test/kl")),
                    (f"minus distortion = {with_unit('test/log_px')}", wr.SummaryMetric("test/log_px")),
                    _first("beta", keys),
                )
            ],
        ),
        *([_fid_section(board.features, keys)] if board.features and keys else []),
        _Section(
            "All choices at once",
            "Follow the lines from the choices on the left to the numbers on the right: look for a choice whose lines "
            "all end high or all end low, and for latents beyond the number of active units, which are unused.",
            [
                wr.ParallelCoordinatesPlot(
                    title="From choices to results, test split",
                    columns=[wr.ParallelCoordinatesPlotColumn(key, display_name=name) for name, key in columns.items()],
                )
            ],
            grouped=False,
        ),
        _Section(
            "Which choice matters",
            "Look for the longest bars: what the test ELBO depends on most. The sign of a correlation says which way.",
            [wr.ParameterImportancePlot(with_respect_to="test/elbo")],
            grouped=False,
        ),
        _Section(
            "Runs side by side",
            "Look for what differs between two runs whose results differ: only such rows are shown.",
            [wr.RunComparer(diff_only="split")],
            grouped=False,
        ),
        _Section(
            "Pictures",
            "Look for blurred reconstructions (the rate is too low), and for samples that are worse than the "
            "reconstructions: the latents of real images then lie where the prior seldom samples.",
            # The library has no panel for the histogram val/kl_per_latent; W&B shows it on the run's page.
            [
                wr.MediaBrowser(title="Samples from the prior", media_keys=["pictures/samples"], num_columns=3),
                wr.MediaBrowser(title="Reconstructions", media_keys=["pictures/reconstructions"], num_columns=3),
            ],
            grouped=False,
        ),
    ]


def _fid_section(features: str, keys: tuple[str, ...]) -> _Section:
    """FID against the number of latents, or against the first swept key if all runs have the same number."""
    _, wr = _library()
    across = _first("latent", keys)
    colour = _first("beta", tuple(key for key in keys if key != across))
    scores = [f"fid/{features}/{samples}" for samples in catalogue.SAMPLES]
    return _Section(
        "FID",
        f"Lower is better; the numbers have no unit, and compare only within the same features ({features}). Look for "
        "where the reconstructions stop improving, and for samples from a mixture fitted to the latents that beat "
        "samples from the prior: the prior fits the latents badly.",
        [
            _scatter(
                (str(across), wr.Config(across)),
                (catalogue.label(score), wr.SummaryMetric(score)),
                colour,
                log_x=True if across == "latent" else None,
            )
            for score in scores
        ],
    )


def _line(metric: str, title: str) -> Any:
    _, wr = _library()
    return wr.LinePlot(
        title=title,
        x="global_step",
        y=[metric],
        title_x="optimiser steps",
        title_y=with_unit(metric),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=_MAX_RUNS,
    )


def _scatter(x: tuple[str, Any], y: tuple[str, Any], colour: str | None, **more: Any) -> Any:
    """One point per run or group of runs. The plot's title names the axes, because the library cannot label them."""
    _, wr = _library()
    title = f"x: {x[0]}; y: {y[0]}" + (f"; colour: {colour}" if colour else "")
    return wr.ScatterPlot(title=title, x=x[1], y=y[1], z=wr.Config(colour) if colour else None, **more)


def _first(wanted: str, keys: tuple[str, ...]) -> str | None:
    return wanted if wanted in keys else next(iter(keys), None)


def _grouping(board: Board) -> tuple[str, ...]:
    """All swept keys but the seed; grouping by fewer would average over runs that differ in more than the seed."""
    return tuple(key for key in board.swept if key != "seed")


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
