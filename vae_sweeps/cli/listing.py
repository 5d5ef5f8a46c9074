"""The subcommand that lists the sweeps of an output folder."""

from typing import TYPE_CHECKING

import typer

from vae_sweeps.cli.arguments import OUTPUTS, OutputDir, refusing
from vae_sweeps.cli.text import aligned

if TYPE_CHECKING:
    from vae_sweeps.runs.sweep_folder import SweepFolder

_HEADER = ("SWEEP", "POINTS", "SIZE", "LAST LAUNCH", "STATES")


def list_sweeps(output_dir: OutputDir = OUTPUTS) -> None:
    """List sweeps with their points, size, last launch and states.

    The latest launch comes first. The size includes the runs; a run of two sweeps counts in both.
    Changes nothing.
    """
    from vae_sweeps.runs import states
    from vae_sweeps.runs.cleanup import size_of
    from vae_sweeps.runs.sweep_folder import all_sweeps, known_sweeps
    from vae_sweeps.system.logs import size_in_words

    with refusing():
        sweeps = all_sweeps(output_dir)
        if not sweeps:
            typer.echo(known_sweeps(output_dir))
            return
        rows = []
        for sweep, points in zip(sweeps, states.of_sweeps(sweeps), strict=True):
            size = size_of([sweep.path, *(sweep.run(point.run).path for point in points)])
            sizes = str(len(points)), size_in_words(size.num_bytes)
            rows.append((sweep.name, *sizes, _last_launch(sweep), states.counts(points)))
    rows.sort(key=lambda row: row[3], reverse=True)
    for line in aligned([_HEADER, *rows], "<>><<"):
        typer.echo(line)


def _last_launch(sweep: "SweepFolder") -> str:
    """The local time of the sweep's last launch, to the minute; empty if no launch is on record."""
    launches = sweep.read_launches()
    return str(launches[-1]["at"])[:16].replace("T", " ") if launches else ""
