"""The command `vae-sweeps`: its subcommands, their help panels and examples."""

import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Annotated, NoReturn

import typer

from vae_sweeps.cli import choosing, clean, doctor, export, listing, results, storage, sweeps, tracking
from vae_sweeps.system import before_torch

before_torch.prepare()

app = typer.Typer(
    add_completion=True,  # --install-completion
    rich_markup_mode="rich",
    help="Train sweeps of variational autoencoders, show their progress and results, and manage them.",
    epilog="[bold]vae-sweeps COMMAND --help[/bold] shows the arguments of a command, with examples.",
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"vae-sweeps {metadata.version('vae-sweeps')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


def _add(command: Callable[..., None], panel: str, *examples: str, name: str | None = None) -> None:
    lines = [f"[dim]$[/dim] vae-sweeps {example}" for example in examples]
    app.command(name, rich_help_panel=panel, epilog="\n".join(["[bold]Examples[/bold]", *lines]))(command)


_add(
    results.results,
    "Results",
    "results mnist5k-beta-latent-152aac",
    "results SWEEP --over seed --sort -test/elbo",
    "results SWEEP --columns beta,latent,test,fid",
    "results SWEEP --csv table.csv",
    "results | grep conv",
)
_add(choosing.best, "Results", "best SWEEP", "best SWEEP --by fid/classifier/prior --top 5")
_add(choosing.compare, "Results", "compare FIRST SECOND", "compare FIRST SECOND --by test/iwae")
_add(choosing.diff, "Results", "diff RUN RUN")
_add(results.report, "Results", "report SWEEP", "report FIRST SECOND --html both.html")
_add(results.watch, "Results", "watch SWEEP", "watch SWEEP --port 8000")
_add(
    results.evaluate,
    "Results",
    "evaluate SWEEP evaluation=full",
    "evaluate SWEEP evaluation.iwae_samples=5000",
)
_add(sweeps.launch, "Running sweeps", "launch -m beta=0,0.01,1 latent=2,10,128", "launch --help")
_add(export.export, "Results", "export RUN DIR", "export RUN DIR --format onnx")
_add(listing.list_sweeps, "Running sweeps", "list", "list --output-dir DIR", name="list")
_add(sweeps.status, "Running sweeps", "status", "status SWEEP --watch")
_add(sweeps.wait, "Running sweeps", "wait SWEEP && vae-sweeps results SWEEP")
_add(sweeps.retry, "Running sweeps", "retry SWEEP")
_add(sweeps.resume, "Running sweeps", "resume RUN", "resume RUN RUN --device cuda:1")
_add(sweeps.work, "Running sweeps", "work SWEEP", "work SWEEP --workers 3 --idle-exit")
_add(sweeps.cancel, "Running sweeps", "cancel SWEEP")
_add(storage.archive, "Keeping house", "archive SWEEP sweep.tar.zst")
_add(storage.unpack, "Keeping house", "unpack sweep.tar.zst --output-dir DIR")
_add(storage.gc, "Keeping house", "gc", "gc --delete --days 90", "gc --keep-runs")
_add(clean.clean, "Keeping house", "clean SWEEP --dry-run", "clean SWEEP")
_add(doctor.doctor, "Keeping house", "doctor", "doctor SWEEP --fix")
_add(
    sweeps.prefetch,
    "Running sweeps",
    "prefetch data=mnist data.root=DIR",
    "prefetch data=celeba data.root=DIR evaluation/features=inception",
)
_add(tracking.sync, "Tracking", "sync SWEEP", "sync SWEEP --rebuild --project another")
_add(tracking.dashboard, "Tracking", "dashboard SWEEP", "dashboard SWEEP --json > dashboard.json")
_add(tracking.tensorboard, "Tracking", "tensorboard SWEEP")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit. A mistake in it is one line on stderr and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["launch"]:  # its arguments, also --help, are Hydra's
        sweeps.start_launch(given[1:])
    try:
        sys.exit(app(given or ["--help"], prog_name="vae-sweeps", standalone_mode=False))
    except typer.TyperException as error:
        typer.echo(f"error: {' '.join(error.format_message().split())}", err=True)
        sys.exit(2)
