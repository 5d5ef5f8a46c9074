"""A progress bar for data that are downloaded or stored, on the terminal's error output; nothing elsewhere."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from vae_sweeps.system.bars import Bars


@contextlib.contextmanager
def bar(what: str, total: int | None, done: int = 0, *, is_of_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs, and yield what advances it by a number of images, or of bytes."""
    console = Console(stderr=True)
    amount = (DownloadColumn(), TransferSpeedColumn()) if is_of_bytes else (MofNCompleteColumn(), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), *amount)
    with Bars(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=total, completed=done)
        yield lambda number: progress.advance(task, number)
