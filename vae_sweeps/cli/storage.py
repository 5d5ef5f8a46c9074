"""Subcommands that keep house: remove what no sweep names, and pack sweeps into one file."""

from pathlib import Path
from typing import Annotated

import typer

from vae_sweeps.cli.arguments import OUTPUTS, OutputDir, Sweep, refusing


def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without this, only say what could go.")] = False,
    days: Annotated[
        float, typer.Option(min=0, metavar="N", help="Leave alone what changed or was used in the last N days.")
    ] = 30,
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Keep runs of no sweep, such as single ones.")] = False,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Find what no sweep names, and with --delete remove it.

    That is: runs that are in no sweep, which includes those that were trained without -m; with --keep-runs their
    previous checkpoints only; and decoded images in the cache, which are decoded again when they are needed.
    What a sweep names, and what a process works on, is never removed.
    """
    from vae_sweeps.runs import garbage
    from vae_sweeps.runs.cleanup import Size
    from vae_sweeps.system.logs import count, size_in_words, start_logging

    start_logging()
    kinds = tuple(kind for kind in garbage.KINDS if kind != garbage.RUNS or not keep_runs)
    with refusing():
        found = garbage.find(output_dir, days, kinds)
    total = Size()
    for removal in found:
        size = removal.free() if delete else removal.would_free()
        total += size
        typer.echo(f"{'removed' if delete else 'would remove'} {size_in_words(size.num_bytes):>8}  {removal.paths[0]}")
    for kind in kinds:
        number = sum(removal.kind == kind for removal in found)
        typer.echo(f"{kind}: {number}")
    words = f"{count(total.inodes, 'inode')}, {size_in_words(total.num_bytes)}"
    typer.echo(f"removed {words}" if delete else f"--delete would remove {words}")


def archive(
    sweep: Sweep,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file: .tar.zst, .tar.xz, .tar.gz or .tar.")],
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Write a sweep with all its runs into one file.

    It has the configs, rows, results, checkpoints, pictures and reports, with a checksum of each. Files of jobs, copies
    of code and settings with secrets are left out. The sweep stays as it is.
    """
    from vae_sweeps.runs import archive as archives
    from vae_sweeps.runs.sweep_folder import get_sweep
    from vae_sweeps.system.logs import size_in_words

    with refusing():
        number = archives.write(get_sweep(sweep, output_dir), file)
    typer.echo(f"{file}: {number} files, {size_in_words(file.stat().st_size)}")


def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What vae-sweeps archive has written.")],
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Put the sweep of an archive into an output folder.

    Every file is compared with its checksum first. Runs that are there already stay as they are.
    """
    from vae_sweeps.runs import archive as archives
    from vae_sweeps.system.logs import count

    with refusing():
        sweep, new, known = archives.unpack(file, output_dir)
    kept = f", {len(known)} were there already" if known else ""
    typer.echo(f"{sweep.path}: {count(len(new), 'new run')}{kept}")
