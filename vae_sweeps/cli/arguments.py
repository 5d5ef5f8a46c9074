"""Arguments and error messages that the subcommands share."""

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
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Call whatever the runs' configs name, which may be any code."),
]
OUTPUTS = Path("outputs")


def refuse(line: str) -> NoReturn:
    """Print the line that describes the user's mistake, and exit with code 2."""
    typer.echo(f"error: {' '.join(line.split())}", err=True)
    raise typer.Exit(2)


@contextmanager
def refusing() -> Iterator[None]:
    """Report ValueError and OSError in this block as the user's mistake, with the text of the exception."""
    try:
        yield
    except BrokenPipeError:  # whoever reads the output, such as `head`, has seen enough; typer ends the command
        raise
    except (ValueError, OSError) as error:
        refuse(str(error))
