"""The package's log on the console and in files."""

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

log = logging.getLogger(__name__)


class _ToFiles(logging.Handler):
    """Adds each record to every file and keeps none open: a pack may have more points than files may be open."""

    paths: Sequence[Path] = ()

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record) + "\n"
        for path in self.paths:
            with path.open("a") as file:
                file.write(line)


@contextlib.contextmanager
def logged_to(paths: Sequence[Path]) -> Iterator[None]:
    """Copy the package's log into each of these files."""
    package, handler = logging.getLogger("vae_sweeps"), _ToFiles()
    handler.paths = paths
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)


# Where the output is a file or a pipe, no line is cut or folded.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 500)


def start_logging() -> None:
    """Send the package's log to the console: plain lines, above the live bars where there are any."""
    package = logging.getLogger("vae_sweeps")
    package.setLevel(logging.INFO)
    package.propagate = False
    if not package.handlers:
        live = RichHandler(console=console, show_time=False, show_level=False, show_path=False)
        package.addHandler(live if console.is_terminal else logging.StreamHandler(sys.stdout))


def count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
