"""The subcommand that removes what a sweep no longer needs."""

from typing import TYPE_CHECKING, Annotated

import typer

from vae_sweeps.cli.arguments import OUTPUTS, OutputDir, Sweep, refusing

if TYPE_CHECKING:
    from vae_sweeps.runs.cleanup import Size


def clean(
    sweep: Sweep,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Remove what a sweep no longer needs, and pack its pictures.

    Shows the inodes (files and folders) before and after.
    Removes previous checkpoints of finished runs, files of ended jobs, copies of the code that no job uses,
    and what killed processes left behind. Packs the pictures of each finished run into one archive, pictures.zip.
    Runs and jobs that may still work are left alone; retry and the same launch command work as before.
    """
    from vae_sweeps.runs import cleanup
    from vae_sweeps.runs.sweep_folder import get_sweep
    from vae_sweeps.system.logs import count, start_logging

    start_logging()
    with refusing():
        folder = get_sweep(sweep, output_dir)
        found = cleanup.find(folder)
        before = cleanup.size_of([folder.path, *(run.path for run in folder.runs())])
        sizes: dict[str, cleanup.Size] = {}
        for removal in found.removals:
            size = removal.would_free() if dry_run else removal.free()
            sizes[removal.kind] = sizes.get(removal.kind, cleanup.Size()) + size
    for kind, size in sizes.items():
        typer.echo(f"{'would remove' if dry_run else 'removed'} {_in_words(size)}: {kind}")
    if found.busy:
        typer.echo(f"left alone {count(len(found.busy), 'run')} that a process or a job may work on")
    after = before - sum(sizes.values(), cleanup.Size())
    typer.echo(f"{folder.name}: {_in_words(before)} before, {_in_words(after)} {'then' if dry_run else 'now'}")


def _in_words(size: "Size") -> str:
    from vae_sweeps.system.logs import count, size_in_words

    return f"{count(size.inodes, 'inode')} ({size_in_words(max(0, size.num_bytes))})"
