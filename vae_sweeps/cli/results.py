"""Subcommands for what came out: the table, and more columns of it."""

from pathlib import Path
from typing import Annotated

import typer

from vae_sweeps.cli.arguments import OUTPUTS, OutputDir, Runs, refuse, refusing


def results(
    sweep: Annotated[
        str | None, typer.Argument(metavar="SWEEP", help="A sweep's name or folder; all runs if left out.")
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(metavar="KEYS", help="Summarise points that differ in these keys alone: mean, standard error, n."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Only these columns, in this order; fid means all columns fid/..."),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Sort the rows by a column, or by -NAME from its largest value down."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table there as CSV.")] = None,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table there as Parquet.")] = None,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Print the table of a sweep: one row a point.

    ELBO terms are in nats per image.
    A terminal gets the columns that tell most and fit it; a pipe all of them, six digits each; a file every digit.
    """
    from rich.console import Console

    from vae_sweeps.analysis import columns as selection
    from vae_sweeps.analysis import seeds, table, terminal

    keys = over.split(",") if over is not None else []
    with refusing():
        folders, swept = table.find_runs(sweep if sweep is not None else output_dir, output_dir)
        frame = table.make_table(folders, swept)
        if over is not None:
            frame = seeds.over(frame, keys)
        if sort is not None:
            frame = selection.sorted_by(frame, sort)
        if columns is not None:
            frame = selection.chosen(frame, columns.split(","))
    for option, path in (("csv", csv), ("parquet", parquet)):
        if path is None:
            continue
        try:
            table.to_file(frame, path)
        except OSError as error:
            refuse(f"--{option}={path}: cannot be written ({error.strerror}); must be a file in a folder that exists")
        typer.echo(f"{len(frame)} rows written to {path}")
    if csv is not None or parquet is not None:
        return
    console = Console(highlight=False)
    if console.is_terminal:
        terminal.show(frame, swept, out=console, over=keys, is_chosen=columns is not None)
    else:
        typer.echo(terminal.plain(frame))


def report(
    sweeps: Annotated[list[str], typer.Argument(metavar="SWEEP...", help="Sweeps' names or folders.")],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there; else into the sweep's folder.")
    ] = None,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Write report.html: all there is of a sweep, on one page.

    A table, figures and pictures, also of a sweep that still runs.
    Several sweeps are told together, by default in the output folder.
    """
    from vae_sweeps.report import page
    from vae_sweeps.runs.sweep_folder import get_sweep

    with refusing():
        folders = [get_sweep(sweep, output_dir) for sweep in dict.fromkeys(sweeps)]
    place = html or (folders[0].report if len(folders) == 1 else output_dir / folders[0].report.name)
    try:
        page.write(folders, place)
    except OSError as error:
        refuse(f"--html={place}: cannot be written ({error.strerror}); must be a file in a folder that exists")
    typer.echo(place)


def evaluate(
    sweep: Runs,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="What to measure, as for launch.py; by default what is missing."),
    ] = None,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Measure more of finished runs, without training.

    Adds columns to their results, and leaves those that are there.
    Exit code 1 if something could not be evaluated.
    """
    from vae_sweeps.config.errors import UserErrors, one_line
    from vae_sweeps.launch.evaluate import evaluate_sweep

    try:
        is_whole = evaluate_sweep(sweep, overrides or [], output_dir)
    except UserErrors as error:
        refuse(one_line(error))
    raise typer.Exit(0 if is_whole else 1)
