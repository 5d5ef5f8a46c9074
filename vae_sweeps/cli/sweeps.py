"""Subcommands for sweeps on their way: what they need ahead, where they stand, and how they go on or end."""

from typing import Annotated

import typer

from vae_sweeps.cli.arguments import OUTPUTS, OutputDir, Sweep, refuse, refusing

_LOOK_EVERY_S = 5


def status(
    sweep: Annotated[
        str | None, typer.Argument(metavar="SWEEP", help="A sweep's name or folder; all sweeps if left out.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again until nothing runs or waits any more.")] = False,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Show where sweeps stand: points by state.

    Of one sweep also what runs and how far, what waits and why, and what failed. Changes nothing.
    """
    import time

    from rich.console import Console

    from vae_sweeps.runs import states
    from vae_sweeps.runs.sweep_folder import all_sweeps, get_sweep, known_sweeps

    with refusing():
        folders = [get_sweep(sweep, output_dir)] if sweep is not None else all_sweeps(output_dir)
        while True:
            found = states.of_sweeps(folders)
            if watch:
                Console().clear()
            for folder, points in zip(folders, found, strict=True):
                typer.echo(f"{folder.name}: {states.counts(points)}")
                for line in states.described(points) if sweep is not None else ():
                    typer.echo(line)
            if not folders:
                typer.echo(known_sweeps(output_dir))
            if not watch or not states.is_moving(point for points in found for point in points):
                return
            time.sleep(_LOOK_EVERY_S)


def wait(sweep: Sweep, output_dir: OutputDir = OUTPUTS) -> None:
    """Wait until no point of a sweep runs or is queued.

    Exit code 1 if not all are done. Ctrl-C leaves the jobs alone.
    """
    from vae_sweeps.runs import states
    from vae_sweeps.runs.sweep_folder import get_sweep
    from vae_sweeps.system.logs import start_logging

    start_logging()
    with refusing():
        ended = states.wait(get_sweep(sweep, output_dir))
    raise typer.Exit(0 if all(point.state == "done" for point in ended) else 1)


def retry(sweep: Sweep, output_dir: OutputDir = OUTPUTS) -> None:
    """Take up points that failed, or whose job was lost.

    They go on where they stopped, as they were launched last: here, or by SLURM.
    Exit code 1 if some have not ended.
    """
    from vae_sweeps.launch.retry import retry_sweep
    from vae_sweeps.system.logs import start_logging

    start_logging()
    with refusing():
        is_over = retry_sweep(sweep, output_dir)
    raise typer.Exit(0 if is_over else 1)


def cancel(sweep: Sweep, output_dir: OutputDir = OUTPUTS) -> None:
    """End a sweep's jobs; what they have done is saved.

    The same launch again goes on from there.
    """
    from vae_sweeps.runs import states
    from vae_sweeps.runs.sweep_folder import get_sweep
    from vae_sweeps.system import slurm

    with refusing():
        tasks = states.tasks_in_queue(get_sweep(sweep, output_dir))
        slurm.cancel(tasks)
    typer.echo(f"{len(tasks)} jobs told to end: {', '.join(sorted(tasks))}" if tasks else "no jobs in the queue")


def prefetch(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Data and evaluation, as for launch.py."),
    ] = None,
) -> None:
    """Fetch data and features ahead, for jobs without a network."""
    from vae_sweeps.config.errors import UserErrors, one_line
    from vae_sweeps.launch.evaluate import fetch_ahead

    try:
        fetch_ahead(overrides or [])
    except UserErrors as error:
        refuse(one_line(error))
