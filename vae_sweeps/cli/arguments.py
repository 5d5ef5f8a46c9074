"""What the subcommands share: their arguments, and how a mistake is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

Sweep = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep's name or folder.")]
Runs = Annotated[
    str, typer.Argument(metavar="SWEEP", help="A sweep's name or folder, a run's folder, or an output folder.")
]
OutputDir = Annotated[
    Path,
    typer.Option(metavar="FOLDER", help="The folder that holds runs/ and sweeps/ (launch.py's output_dir)."),
]
OUTPUTS = Path("outputs")


def refuse(line: str) -> NoReturn:
    """End with a user's mistake in one line, and exit code 2."""
    typer.echo(f"error: {' '.join(line.split())}", err=True)
    raise typer.Exit(2)


@contextmanager
def refusing() -> Iterator[None]:
    """What goes wrong in here is the user's mistake, and its text the line that says so."""
    try:
        yield
    except (ValueError, OSError) as error:
        refuse(str(error))
