"""Arguments and error messages that the subcommands share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

OUTPUTS = Path("outputs")


def names_of_sweeps(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of sweeps that begin like this, for the shell."""
    from vae_sweeps.runs.sweep_folder import all_sweeps

    names = [sweep.path.name for sweep in all_sweeps(ctx.params.get("output_dir") or OUTPUTS)]
    return [name for name in names if name.startswith(incomplete)]


def names_of_runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of runs that begin like this, for the shell."""
    from vae_sweeps.runs.finding import all_runs

    names = [run.name for run in all_runs(ctx.params.get("output_dir") or OUTPUTS)]
    return [name for name in names if name.startswith(incomplete)]


def _argument(metavar: str, words: str, complete: Callable[[typer.Context, str], list[str]]) -> Any:
    return typer.Argument(metavar=metavar, help=words, autocompletion=complete)


Sweep = Annotated[str, _argument("SWEEP", "A sweep's name or folder.", names_of_sweeps)]
Run = Annotated[str, _argument("RUN", "A run's name or folder.", names_of_runs)]
Runs = Annotated[
    str, _argument("SWEEP", "A sweep's name or folder, a run's folder, or an output folder.", names_of_sweeps)
]
OutputDir = Annotated[
    Path,
    typer.Option(metavar="FOLDER", help="The folder that holds runs/ and sweeps/ (launch.py's output_dir)."),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Call whatever the runs' configs name, which may be any code."),
]


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
