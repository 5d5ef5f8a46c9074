"""The command `vae-sweeps`: what is there, without training anything."""

import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer

# As in launch.py, and before torch is imported: OpenMP's threads must not spin where anything else runs.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

Runs = Annotated[str, typer.Argument(help="A sweep's name or folder, a run's folder, or an output folder.")]
OutputDir = Annotated[Path, typer.Option(help="The folder that holds runs/ and sweeps/ (launch.py's output_dir).")]


def _refuse(line: str) -> NoReturn:
    typer.echo(f"error: {' '.join(line.split())}", err=True)
    raise typer.Exit(2)


@app.callback()
def main() -> None:
    """Look after sweeps that `python launch.py` trains: where they stand, what came out, more of it."""


@app.command()
def results(
    sweep: Annotated[str | None, typer.Argument(help="A sweep's name or folder; all runs if left out.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table there as CSV.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write the table there as Parquet.")] = None,
    output_dir: OutputDir = Path("outputs"),
) -> None:
    """Print the table of a sweep: one row a point, ELBO terms in nats."""
    from vae_sweeps import summary, table

    try:
        folders, swept = table.find_runs(sweep if sweep is not None else output_dir, output_dir)
        frame = table.make_table(folders, swept)
    except (ValueError, OSError) as error:
        _refuse(str(error))
    for option, path in (("csv", csv), ("parquet", parquet)):
        if path is None:
            continue
        try:
            table.to_file(frame, path)
        except OSError as error:
            _refuse(f"--{option}={path}: cannot be written ({error.strerror}); must be a file in a folder that exists")
        typer.echo(f"{len(frame)} rows written to {path}")
    if csv is None and parquet is None:
        summary.show(frame, swept)


@app.command()
def evaluate(
    sweep: Runs,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="As for launch.py: evaluation=full evaluation.iwae_samples=5000 ...")
    ] = None,
    output_dir: OutputDir = Path("outputs"),
) -> None:
    """Evaluate finished runs without training: adds columns to their results, and leaves those that are there.

    Exit code 1 if something could not be evaluated.
    """
    from vae_sweeps import evaluating
    from vae_sweeps.errors import UserErrors, one_line

    try:
        is_whole = evaluating.evaluate(sweep, overrides or [], output_dir)
    except UserErrors as error:
        _refuse(one_line(error))
    raise typer.Exit(0 if is_whole else 1)


@app.command()
def prefetch(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="As for launch.py: data=mnist evaluation/features=inception ...")
    ] = None,
) -> None:
    """Fetch the data and the features of an evaluation ahead, for jobs on machines without a network."""
    from vae_sweeps import evaluating
    from vae_sweeps.errors import UserErrors, one_line

    try:
        evaluating.prefetch(overrides or [])
    except UserErrors as error:
        _refuse(one_line(error))


@app.command()
def sync(
    sweep: Runs,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Leave W&B's own offline files aside.")] = False,
    entity: Annotated[str | None, typer.Option(help="Send the runs there, not where their configs say.")] = None,
    project: Annotated[str | None, typer.Option(help="The same.")] = None,
    salt: Annotated[str | None, typer.Option(help="Make new runs: W&B takes no id that was deleted there.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Seconds that one run may take.")] = 120,
    output_dir: OutputDir = Path("outputs"),
) -> None:
    """Send to Weights & Biases what it has not: rows, pictures, summaries. Again, it sends nothing twice.

    Sends the segments that offline nodes left, and what those lack from the run folders. Exit code 1 if runs are left.
    """
    from vae_sweeps import progress, table
    from vae_sweeps.store import find_sweep
    from vae_sweeps.tracker.sync import Target
    from vae_sweeps.tracker.sync import sync as send

    progress.start_logging()
    try:
        folders, _ = table.find_runs(sweep, output_dir)
        target = Target(entity, project, salt)
        is_whole = send(folders, find_sweep(sweep, output_dir), target, from_folders=rebuild, timeout_s=timeout_s)
    except (ValueError, OSError) as error:
        _refuse(str(error))
    raise typer.Exit(0 if is_whole else 1)


@app.command()
def dashboard(
    sweep: Annotated[str, typer.Argument(help="A sweep's name or folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the specification; needs no server.")] = False,
    entity: Annotated[str | None, typer.Option(help="Whose project, where it is not that of the runs.")] = None,
    project: Annotated[str | None, typer.Option(help="Which project, likewise.")] = None,
    output_dir: OutputDir = Path("outputs"),
) -> None:
    """Save a workspace and a report of the sweep on Weights & Biases: curves, rate and distortion, FID, pictures."""
    import json

    from vae_sweeps import states
    from vae_sweeps.tracker import dashboard as dashboards
    from vae_sweeps.tracker.board import board_of

    try:
        board = board_of(states.find(sweep, output_dir), entity, project)
        if as_json:
            typer.echo(json.dumps(dashboards.specification(board), indent=1, ensure_ascii=False))
            return
        workspace, report = dashboards.save(board)
    except ValueError as error:
        _refuse(str(error))
    typer.echo(f"workspace: {workspace}\nreport: {report}")


@app.command()
def report(
    sweeps: Annotated[list[str], typer.Argument(metavar="SWEEP...", help="Sweeps' names or folders.")],
    html: Annotated[Path | None, typer.Option(help="Write it there; else into the sweep's folder.")] = None,
    output_dir: OutputDir = Path("outputs"),
) -> None:
    """Write report.html, one page with all there is of a sweep so far: table, figures, pictures.

    Several sweeps are told together, by default in the output folder.
    """
    from vae_sweeps import states
    from vae_sweeps.report import page

    try:
        folders = [states.find(sweep, output_dir) for sweep in dict.fromkeys(sweeps)]
    except ValueError as error:
        _refuse(str(error))
    place = html or (folders[0] if len(folders) == 1 else output_dir) / page.NAME
    try:
        page.write(folders, place)
    except OSError as error:
        _refuse(f"--html={place}: cannot be written ({error.strerror}); must be a file in a folder that exists")
    typer.echo(place)


Sweep = Annotated[str, typer.Argument(help="A sweep's name or folder.")]


@app.command()
def status(
    sweep: Annotated[str | None, typer.Argument(help="A sweep's name or folder; all sweeps if left out.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until nothing runs or waits any more.")] = False,
    output_dir: OutputDir = Path("outputs"),
) -> None:
    """Where sweeps stand: points by state, what runs and how far, what waits and why, what failed. Changes nothing."""
    import time

    from rich.console import Console

    from vae_sweeps import states, store

    try:
        folders = [states.find(sweep, output_dir)] if sweep is not None else store.all_sweeps(output_dir)
        while True:
            found = states.of_sweeps(folders)
            if watch:
                Console().clear()
            for folder, points in zip(folders, found, strict=True):
                typer.echo(f"{folder.name}: {states.counts(points)}")
                for line in states.described(points) if sweep is not None else ():
                    typer.echo(line)
            if not folders:
                typer.echo(store.known_sweeps(output_dir))
            if not watch or not states.is_moving(point for points in found for point in points):
                return
            time.sleep(5)
    except ValueError as error:
        _refuse(str(error))


@app.command()
def wait(sweep: Sweep, output_dir: OutputDir = Path("outputs")) -> None:
    """Stay until no point of the sweep runs or waits in the queue. Exit code 1 if not all are done."""
    from vae_sweeps import progress, states

    progress.start_logging()
    try:
        ended = states.wait(states.find(sweep, output_dir))
    except ValueError as error:
        _refuse(str(error))
    raise typer.Exit(0 if all(point.state == "done" for point in ended) else 1)


@app.command()
def retry(sweep: Sweep, output_dir: OutputDir = Path("outputs")) -> None:
    """Take up the points that failed, were preempted or are lost, as they were launched last."""
    from vae_sweeps import placing, progress

    progress.start_logging()
    try:
        is_over = placing.retry(sweep, output_dir)
    except ValueError as error:
        _refuse(str(error))
    raise typer.Exit(0 if is_over else 1)


@app.command()
def cancel(sweep: Sweep, output_dir: OutputDir = Path("outputs")) -> None:
    """End the sweep's own jobs; what they have done is saved, and the launch given again goes on from there."""
    from vae_sweeps import slurm, states

    try:
        tasks = states.tasks_in_queue(states.find(sweep, output_dir))
        slurm.cancel(tasks)
    except ValueError as error:
        _refuse(str(error))
    typer.echo(f"{len(tasks)} jobs told to end: {', '.join(sorted(tasks))}" if tasks else "no jobs in the queue")
