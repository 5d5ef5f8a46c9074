"""The subcommand that writes a model for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from vae_sweeps.cli.arguments import OUTPUTS, OutputDir, Run, Trust, refusing


def export(
    run: Run,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="One of torch, safetensors and onnx.")
    ] = "torch",
    trust: Trust = False,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Write a run's encoder and decoder for programs without vae-sweeps.

    torch and safetensors write weights and model.py, a module that needs PyTorch alone; onnx writes encoder.onnx and
    decoder.onnx. README.md describes the model. The outputs are compared with those of the run.
    """
    from vae_sweeps.export import write

    with refusing():
        difference = write.export(run, folder, form, output_dir, is_trusted=trust)
    typer.echo(f"{folder}: outputs equal to those of the run within {difference:.1g}")
