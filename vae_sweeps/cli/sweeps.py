"""Subcommands that monitor and control sweeps, and prepare jobs."""

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from vae_sweeps.cli.arguments import OUTPUTS, OutputDir, Sweep, Trust, names_of_runs, names_of_sweeps, refuse, refusing

_WATCH_INTERVAL_S = 5
_SLURM_INTERVAL_S = 30


def launch() -> None:
    """Train one point, or with -m a sweep, from any folder.

    The arguments are Hydra's, as those of `launch.py`: `vae-sweeps launch --help` lists groups and keys, and
    `--config-dir DIR` adds a folder with configs of your own.
    """
    start_launch([])


def start_launch(arguments: Sequence[str]) -> NoReturn:
    """Launch what these arguments describe, and exit."""
    from vae_sweeps.launch.start import start

    sys.argv = ["vae-sweeps launch", *arguments]
    start()
    raise AssertionError("it has exited")


def status(
    sweep: Annotated[
        str | None,
        typer.Argument(
            metavar="SWEEP", help="A sweep's name or folder; by default all sweeps.", autocompletion=names_of_sweeps
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Update the output until no point runs or waits.")] = False,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Show the progress of sweeps as points by state.

    For a single sweep, also show when it is expected to end, what it costs, what its jobs use, how far running points
    are, why points wait, and why points failed. Changes nothing; with --watch, points for which the queue had no room
    are submitted when there is room.
    """
    import time

    from rich.console import Console

    from vae_sweeps.runs import monitor, states
    from vae_sweeps.runs.sweep_folder import all_sweeps, get_sweep, known_sweeps

    with refusing():
        folders = [get_sweep(sweep, output_dir)] if sweep is not None else all_sweeps(output_dir)
        while True:
            points_by_sweep = states.of_sweeps(folders)
            if watch:
                Console().clear()
            for folder, points in zip(folders, points_by_sweep, strict=True):
                typer.echo(f"{folder.name}: {states.counts(points)}")
                for line in monitor.described(folder, points) if sweep is not None else ():
                    typer.echo(line)
            if not folders:
                typer.echo(known_sweeps(output_dir))
            if not watch:
                return
            from vae_sweeps.launch.again import submit_rest

            is_left = [submit_rest(folder) for folder in folders if folder.submitted().unsubmitted]
            if not any(is_left) and not states.is_moving(p for points in points_by_sweep for p in points):
                return
            has_jobs = any(folder.submissions.exists() for folder in folders)
            time.sleep(_SLURM_INTERVAL_S if has_jobs else _WATCH_INTERVAL_S)


def wait(sweep: Sweep, output_dir: OutputDir = OUTPUTS) -> None:
    """Wait until no point of a sweep runs or is queued.

    Points for which the queue had no room are submitted when there is room.
    The exit code is 1 if not all points are done. Ctrl-C does not stop the jobs.
    """
    from vae_sweeps.launch.again import submit_rest
    from vae_sweeps.runs import states
    from vae_sweeps.runs.sweep_folder import get_sweep
    from vae_sweeps.system.logs import start_logging

    start_logging()
    with refusing():
        ended = states.wait(get_sweep(sweep, output_dir), when_room=submit_rest)
    raise typer.Exit(0 if all(point.state in ("done", "stopped") for point in ended) else 1)


def retry(sweep: Sweep, trust: Trust = False, output_dir: OutputDir = OUTPUTS) -> None:
    """Resume points that failed, were stopped or lost, or never began.

    They resume with the settings of their last launch, on this machine or on SLURM.
    The exit code is 1 if some points did not finish.
    """
    from vae_sweeps.launch.retry import retry_sweep
    from vae_sweeps.system.logs import start_logging

    start_logging()
    with refusing():
        is_over = retry_sweep(sweep, output_dir, is_trusted=trust)
    raise typer.Exit(0 if is_over else 1)


def resume(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Names or folders of runs.", autocompletion=names_of_runs),
    ],
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; by default that of the launch.")] = None,
    trust: Trust = False,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Train runs to their last step, such as those that halving stopped.

    They go on from their checkpoints, on this machine, with the settings of their launch.
    The exit code is 1 if some did not finish.
    """
    from vae_sweeps.launch.retry import resume_runs
    from vae_sweeps.system.logs import start_logging

    start_logging()
    with refusing():
        is_over = resume_runs(runs, output_dir, device=device, is_trusted=trust)
    raise typer.Exit(0 if is_over else 1)


def work(
    sweep: Sweep,
    workers: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many workers share the points; none takes more than 1/N.")
    ] = 1,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; by default that of the launch.")] = None,
    idle_exit: Annotated[
        bool, typer.Option("--idle-exit", help="Exit as soon as there is nothing to train, though others still train.")
    ] = False,
    trust: Trust = False,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Train the waiting points of a sweep until all have ended.

    They are evaluated too. Any number of workers may work on a sweep, wherever they see its folder.
    No point is trained twice.
    The exit code is 1 if not all points are done.
    """
    from vae_sweeps.launch import work

    with refusing():
        is_over = work.work(
            sweep, output_dir, num_workers=workers, device=device, is_patient=not idle_exit, is_trusted=trust
        )
    raise typer.Exit(0 if is_over else 1)


def cancel(sweep: Sweep, output_dir: OutputDir = OUTPUTS) -> None:
    """Cancel the jobs of a sweep; their progress is saved.

    Running the same launch command again resumes the sweep.
    """
    from vae_sweeps.runs import states
    from vae_sweeps.runs.sweep_folder import get_sweep
    from vae_sweeps.system import slurm

    with refusing():
        folder = get_sweep(sweep, output_dir)
        folder.log_unsubmitted([])  # so that nothing more is submitted
        tasks = states.tasks_in_queue(folder)
        slurm.cancel(tasks)
    typer.echo(f"jobs cancelled: {', '.join(sorted(tasks))}" if tasks else "no jobs in the queue")


def prefetch(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Data and evaluation keys, as for launch.py."),
    ] = None,
) -> None:
    """Fetch data and features for jobs without network access."""
    from vae_sweeps.config.errors import UserErrors, one_line
    from vae_sweeps.launch.evaluate import fetch_ahead

    try:
        fetch_ahead(overrides or [])
    except UserErrors as error:
        refuse(one_line(error))
