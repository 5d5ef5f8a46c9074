"""Subcommands for Weights & Biases and TensorBoard."""

from typing import Annotated

import typer

from vae_sweeps.cli.arguments import OUTPUTS, OutputDir, Runs, Sweep, refusing


def sync(
    sweep: Runs,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Use only the run folders, not W&B's offline files.")
    ] = False,
    entity: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Send the runs to this user or team, instead of the one in their configs."),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Send the runs to this project, instead of the one in their configs."),
    ] = None,
    salt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Create new runs with this suffix; W&B rejects the ids of deleted runs."),
    ] = None,
    timeout_s: Annotated[float, typer.Option(metavar="SECONDS", help="Time limit for each run.")] = 120,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Upload what is missing on Weights & Biases.

    Uploads W&B's offline files, then missing rows, pictures and summaries from the run folders, without duplicates.
    The exit code is 1 if some runs could not be uploaded completely.
    """
    from vae_sweeps.analysis import table
    from vae_sweeps.runs.sweep_folder import find_sweep
    from vae_sweeps.system.logs import start_logging
    from vae_sweeps.tracker import server
    from vae_sweeps.tracker.sync import Target
    from vae_sweeps.tracker.sync import sync as send

    start_logging()
    with refusing(), server.closing():
        folders, _ = table.find_runs(sweep, output_dir)
        target = Target(entity, project, salt)
        is_whole = send(folders, find_sweep(sweep, output_dir), target, from_folders=rebuild, timeout_s=timeout_s)
    raise typer.Exit(0 if is_whole else 1)


def dashboard(
    sweep: Sweep,
    as_json: Annotated[bool, typer.Option("--json", help="Print the specification as JSON, without a server.")] = False,
    entity: Annotated[
        str | None, typer.Option(metavar="NAME", help="The user or team of the project; by default that of the runs.")
    ] = None,
    project: Annotated[
        str | None, typer.Option(metavar="NAME", help="The project; by default that of the runs.")
    ] = None,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Create a workspace and a report on Weights & Biases.

    They show learning curves, rate and distortion, FID, and pictures. Each call creates new ones.
    """
    import json

    from vae_sweeps.runs.sweep_folder import get_sweep
    from vae_sweeps.tracker import dashboard, server
    from vae_sweeps.tracker.board import board_of

    with refusing(), server.closing():
        board = board_of(get_sweep(sweep, output_dir), entity, project)
        if as_json:
            typer.echo(json.dumps(dashboard.specification(board), indent=1, ensure_ascii=False))
            return
        workspace, report = dashboard.save(board)
    typer.echo(f"workspace: {workspace}\nreport: {report}")


def tensorboard(sweep: Runs, output_dir: OutputDir = OUTPUTS) -> None:
    """Write event files for TensorBoard.

    They hold the rows, pictures and columns that the run folders have, also of runs that still train; what is already
    there is not written twice. Prints the command that shows them. The exit code is 1 if some could not be written.
    """
    from vae_sweeps.tracker import requirements

    with refusing():
        requirements.require_tensorboard("tensorboard")

    from vae_sweeps.analysis import table
    from vae_sweeps.runs.sweep_folder import find_sweep
    from vae_sweeps.system.logs import count
    from vae_sweeps.tracker import event_writer

    with refusing():
        folders, _ = table.find_runs(sweep, output_dir)
        if not folders:
            raise ValueError(f"{sweep}: has no runs; launch it first")
        found = find_sweep(sweep, output_dir)
        written = event_writer.write(folders, found)
    for folder, reason in written.left.items():
        typer.echo(f"not written: {folder.name}: {reason}", err=True)
    total = count(len(folders), "run")
    typer.echo(f"{total}: {written.num_changed} written, {written.num_same} were up to date")
    typer.echo(event_writer.how_to_show(event_writer.logdir_of(folders, found)))
    raise typer.Exit(1 if written.left else 0)
