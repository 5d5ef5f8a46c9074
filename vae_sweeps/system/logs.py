"""Logging to the console and to files."""

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

log = logging.getLogger(__name__)


class _ToFiles(logging.Handler):
    """Appends each record to every file. Keeps no file open, since a pack may exceed the limit of open files."""

    def __init__(self, paths: Callable[[], Sequence[Path]]) -> None:
        super().__init__()
        self._paths = paths

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record) + "\n"
        for path in self._paths():
            with contextlib.suppress(OSError), path.open("a") as file:  # a full disk must not stop the training
                file.write(line)


@contextlib.contextmanager
def logged_to(paths: Callable[[], Sequence[Path]]) -> Iterator[None]:
    """Copy the package's log into the files that `paths` returns at the time of each message."""
    package, handler = logging.getLogger("vae_sweeps"), _ToFiles(paths)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)


# A job's output goes to a file, though srun --unbuffered, which submitit uses, makes it a terminal's: the log would get
# thousands of frames of progress bars.
_IS_JOB = "SUBMITIT_EXECUTOR" in os.environ

# In a file or a pipe, lines are neither cut nor wrapped.
console = Console(
    highlight=False,
    soft_wrap=True,
    width=None if sys.stdout.isatty() and not _IS_JOB else 500,
    force_terminal=False if _IS_JOB else None,
)


def start_logging() -> None:
    """Send the package's log to the console, as plain lines above any progress bars."""
    package = logging.getLogger("vae_sweeps")
    package.setLevel(logging.INFO)
    package.propagate = False
    if not package.handlers:
        live = RichHandler(console=console, show_time=False, show_level=False, show_path=False)
        package.addHandler(live if console.is_terminal else logging.StreamHandler(sys.stdout))


@functools.cache
def warn_once(text: str) -> None:
    """Log a warning, unless this process has logged it before; many functions may read one damaged file."""
    log.warning("%s", text)


def first_line(error: BaseException) -> str:
    """The type of the error and the first line of its text."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def duration(seconds: float) -> str:
    """A duration in hours, minutes or seconds."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def size_in_words(num_bytes: float) -> str:
    """A number of bytes in MB, or in GB from 1 GB on."""
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:,.1f} GB"


def count(n: int, noun: str) -> str:
    """`n` and the noun, in the plural unless `n` is 1."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
