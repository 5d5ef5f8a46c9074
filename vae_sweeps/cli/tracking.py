"""Subcommands for what Weights & Biases shows of a sweep."""

from typing import Annotated

import typer

from vae_sweeps.cli.arguments import OUTPUTS, OutputDir, Runs, Sweep, refusing


def sync(
    sweep: Runs,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Leave W&B's own offline files aside.")] = False,
    entity: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Send the runs to this user or team, not where their configs say."),
    ] = None,
    project: Annotated[
        str | None, typer.Option(metavar="NAME", help="Send the runs to this project, likewise.")
    ] = None,
    salt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Make new runs: W&B takes no id that was deleted there.")
    ] = None,
    timeout_s: Annotated[float, typer.Option(metavar="SECONDS", help="Seconds that one run may take.")] = 120,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Send to Weights & Biases what it does not have yet.

    Sends the segments that offline nodes left, and what those lack from the run folders: rows, pictures, summaries.
    What is there is not sent again. Exit code 1 if runs are left.
    """
    from vae_sweeps.analysis import table
    from vae_sweeps.runs.sweep_folder import find_sweep
    from vae_sweeps.system.logs import start_logging
    from vae_sweeps.tracker.sync import Target
    from vae_sweeps.tracker.sync import sync as send

    start_logging()
    with refusing():
        folders, _ = table.find_runs(sweep, output_dir)
        target = Target(entity, project, salt)
        is_whole = send(folders, find_sweep(sweep, output_dir), target, from_folders=rebuild, timeout_s=timeout_s)
    raise typer.Exit(0 if is_whole else 1)


def dashboard(
    sweep: Sweep,
    as_json: Annotated[bool, typer.Option("--json", help="Print the specification; needs no server.")] = False,
    entity: Annotated[
        str | None, typer.Option(metavar="NAME", help="The project's user or team, where it is not that of the runs.")
    ] = None,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="The project, likewise.")] = None,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Make a workspace and a report on Weights & Biases.

    They show curves, rate and distortion, FID, and pictures. Each call saves new ones.
    """
    import json

    from vae_sweeps.runs.sweep_folder import get_sweep
    from vae_sweeps.tracker import dashboard
    from vae_sweeps.tracker.board import board_of

    with refusing():
        board = board_of(get_sweep(sweep, output_dir), entity, project)
        if as_json:
            typer.echo(json.dumps(dashboard.specification(board), indent=1, ensure_ascii=False))
            return
        workspace, report = dashboard.save(board)
    typer.echo(f"workspace: {workspace}\nreport: {report}")
