"""Subcommands for results: print the table, write the report, evaluate more metrics."""

from pathlib import Path
from typing import Annotated

import typer

from vae_sweeps.cli.arguments import OUTPUTS, OutputDir, Runs, Trust, refuse, refusing


def results(
    sweep: Annotated[
        str | None, typer.Argument(metavar="SWEEP", help="A sweep's name or folder; by default all runs.")
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(metavar="KEYS", help="Average points that differ only in these keys: mean, standard error, n."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Show only these columns, in this order; fid means fid/..., evaluated how metrics were made.",
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Sort the rows by a column; -NAME sorts in descending order."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table to this CSV file.")] = None,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table to this Parquet file.")] = None,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Print the table of a sweep, with one row per point.

    ELBO terms are in nats per image.
    A terminal shows the most informative columns that fit. A pipe gets all columns with six digits, a file all digits.
    """
    from rich.console import Console

    from vae_sweeps.analysis import columns as selection
    from vae_sweeps.analysis import seeds, table, terminal

    keys = over.split(",") if over is not None else []
    with refusing():
        folders, swept = table.find_runs(sweep if sweep is not None else output_dir, output_dir)
        wants_settings = any(name.startswith("evaluated") for name in (columns or "").split(","))
        frame = table.make_table(folders, swept, all_settings=wants_settings)
        if over is not None:
            frame = seeds.over(frame, keys)
        if sort is not None:
            frame = selection.sorted_by(frame, sort)
        chosen = frame if columns is None else selection.chosen(frame, columns.split(","))
    for option, path in (("csv", csv), ("parquet", parquet)):
        if path is None:
            continue
        try:
            table.to_file(chosen, path)
        except OSError as error:
            refuse(f"--{option}={path}: cannot be written ({error.strerror}); must be a file in a folder that exists")
        typer.echo(f"{len(frame)} rows written to {path}")
    if csv is not None or parquet is not None:
        return
    console = Console(highlight=False)
    if console.is_terminal:
        names = None if columns is None else list(map(str, chosen.columns))
        terminal.show(frame, swept, out=console, over=keys, chosen=names)
    else:
        typer.echo(terminal.plain(chosen))


def report(
    sweeps: Annotated[list[str], typer.Argument(metavar="SWEEP...", help="Sweeps' names or folders.")],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the page to this file; by default to the sweep's folder.")
    ] = None,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Write report.html, one page with all results of a sweep.

    The page has a table, figures and pictures. The sweep may still be running.
    Several sweeps are shown on one page, which is written to the output folder by default.
    """
    from vae_sweeps.report import contents, page
    from vae_sweeps.runs.sweep_folder import get_sweep

    with refusing():
        folders = [get_sweep(sweep, output_dir) for sweep in dict.fromkeys(sweeps)]
    path = html or (folders[0].report if len(folders) == 1 else output_dir / folders[0].report.name)
    try:
        page.write(contents.read(folders), path)
    except OSError as error:
        refuse(f"--html={path}: cannot be written ({error.strerror}); must be a file in a folder that exists")
    typer.echo(path)


def watch(
    sweeps: Annotated[list[str], typer.Argument(metavar="SWEEP...", help="Sweeps' names or folders.")],
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="The port to serve at; by default any that is free.")
    ] = 0,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Serve an up-to-date report to a browser on this machine.

    The sweep may still be running, also on a cluster. Ctrl-C ends the command.
    No other machine is answered; forward the port with ssh -L.
    """
    from vae_sweeps.report import server
    from vae_sweeps.runs.sweep_folder import get_sweep

    with refusing():
        folders = [get_sweep(sweep, output_dir) for sweep in dict.fromkeys(sweeps)]
    try:
        served = server.Server(server.LivePage(folders), port)
    except OSError as error:
        refuse(f"--port={port}: {error.strerror}; must be a free port, or 0 for any")
    typer.echo(f"{served.address} (Ctrl-C ends it)")
    server.serve(served)


def evaluate(
    sweep: Runs,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="What to measure, as for launch.py; by default all missing parts."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="How many processes evaluate side by side; by default as many as pay."),
    ] = None,
    trust: Trust = False,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Add metrics to finished runs, without training.

    Existing columns are kept.
    The exit code is 1 if something could not be evaluated.
    """
    from vae_sweeps.config.errors import UserErrors, one_line
    from vae_sweeps.launch.evaluate import evaluate_sweep

    try:
        is_whole = evaluate_sweep(sweep, overrides or [], output_dir, workers=workers, is_trusted=trust)
    except UserErrors as error:
        refuse(one_line(error))
    raise typer.Exit(0 if is_whole else 1)
