"""The subcommand that lists the sweeps of an output folder."""

from typing import TYPE_CHECKING

import typer

from vae_sweeps.cli.arguments import OUTPUTS, OutputDir, refusing

if TYPE_CHECKING:
    from vae_sweeps.runs.sweep_folder import SweepFolder

_HEADER = ("SWEEP", "POINTS", "SIZE", "LAST LAUNCH", "STATES")


def list_sweeps(output_dir: OutputDir = OUTPUTS) -> None:
    """List sweeps with their points, size, last launch and states.

    The latest launch comes first. The size includes the sweep's runs; a run of two sweeps counts in both.
    Changes nothing.
    """
    from vae_sweeps.runs import states
    from vae_sweeps.runs.sweep_folder import all_sweeps, known_sweeps

    with refusing():
        sweeps = all_sweeps(output_dir)
        if not sweeps:
            typer.echo(known_sweeps(output_dir))
            return
        rows = [
            (sweep.name, str(len(points)), _size(sweep), _last_launch(sweep), states.counts(points))
            for sweep, points in zip(sweeps, states.of_sweeps(sweeps), strict=True)
        ]
    rows.sort(key=lambda row: row[3], reverse=True)
    widths = [max(map(len, column)) for column in zip(_HEADER, *rows, strict=True)]
    for name, points, size, launched, counts in (_HEADER, *rows):
        numbers = f"{points:>{widths[1]}}  {size:>{widths[2]}}"
        typer.echo(f"{name:<{widths[0]}}  {numbers}  {launched:<{widths[3]}}  {counts}")


def _size(sweep: "SweepFolder") -> str:
    from vae_sweeps.runs.cleanup import size_of

    num_bytes = size_of([sweep.path, *(run.path for run in sweep.runs())]).num_bytes
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:,.1f} GB"


def _last_launch(sweep: "SweepFolder") -> str:
    """The local time of the sweep's last launch, to the minute; empty if no launch is on record."""
    launches = sweep.read_launches()
    return str(launches[-1]["at"])[:16].replace("T", " ") if launches else ""
