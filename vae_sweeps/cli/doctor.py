"""The subcommand that finds and mends damage."""

from typing import Annotated

import typer

from vae_sweeps.cli.arguments import OUTPUTS, OutputDir, refusing


def doctor(
    sweep: Annotated[
        str | None, typer.Argument(metavar="SWEEP", help="A sweep's name or folder; by default all sweeps and runs.")
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended without losing anything.")] = False,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Find damaged files, stale claims and vanished jobs.

    Also finds links, unfinished files, and files that you may not read or write.
    Runs that a process works on are left alone.
    The exit code is 1 if something is left to do.
    """
    from vae_sweeps.runs import checkup
    from vae_sweeps.runs.finding import all_runs
    from vae_sweeps.runs.sweep_folder import all_sweeps, get_sweep
    from vae_sweeps.system import cache
    from vae_sweeps.system.logs import count

    with refusing():
        sweeps = [get_sweep(sweep, output_dir)] if sweep is not None else all_sweeps(output_dir)
        runs = sweeps[0].runs() if sweep is not None else all_runs(output_dir)
        found = [finding for folder in sweeps for finding in checkup.of_sweep(folder)]
        found += [finding for run in runs if run.path.is_dir() for finding in checkup.of_run(run)]
        found += checkup.of_cache(cache.folder())
    num_left = 0
    for finding in found:
        if fix and finding.mend is not None:
            finding.mend()
            typer.echo(f"mended  {finding}")
        else:
            num_left += 1
            typer.echo(str(finding))
    where = f"{count(len(runs), 'run')} and {count(len(sweeps), 'sweep')}"
    if not found:
        typer.echo(f"{where}: nothing is wrong")
    elif num_left and not fix and any(finding.mend for finding in found):
        typer.echo(f"{where}: {count(num_left, 'finding')}; --fix mends those that are safe to mend")
    elif num_left:
        typer.echo(f"{where}: {count(num_left, 'finding')} left")
    raise typer.Exit(1 if num_left else 0)
