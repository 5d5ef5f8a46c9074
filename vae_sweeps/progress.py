"""What a person sees while packs train: a live bar on a terminal, a plain line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from vae_sweeps.training import Progress

log = logging.getLogger(__name__)
# Where the output is a file or a pipe, no line is cut or folded.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 500)

_PLAIN_EVERY_S = 10.0


def start_logging() -> None:
    """Send the package's log to the console: plain lines, above the live bars where there are any."""
    package = logging.getLogger("vae_sweeps")
    package.setLevel(logging.INFO)
    package.propagate = False
    if not package.handlers:
        live = RichHandler(console=console, show_time=False, show_level=False, show_path=False)
        package.addHandler(live if console.is_terminal else logging.StreamHandler(sys.stdout))


def describe(progress: Progress) -> str:
    """ELBO (its range over the pack, nats per image) and speed."""
    if not progress.elbo:
        return "all points diverged"
    low, high = min(progress.elbo), max(progress.elbo)
    elbo = f"{high:.1f}" if len(progress.elbo) == 1 else f"{low:.1f} .. {high:.1f}"
    return f"train ELBO {elbo} nats, {progress.images_per_s:,.0f} images/s"


@contextmanager
def shown(label: str) -> Iterator[Callable[[Progress], None]]:
    """A display for one pack, named `label`: yields what training reports to."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TextColumn("steps,"),
            TimeRemainingColumn(compact=True), TextColumn("left, {task.fields[state]}"),
        )  # fmt: skip
        with Bars(*columns, console=console, transient=True) as bars:
            task = bars.add_task(label, total=None, state="starting")
            yield lambda p: bars.update(task, completed=p.step, total=p.num_steps, state=describe(p))
        return

    began = said = time.monotonic()
    first_step: int | None = None

    def say(progress: Progress) -> None:
        nonlocal said, first_step
        now = time.monotonic()
        if first_step is None:
            first_step = progress.step
        if now - said < _PLAIN_EVERY_S:
            return
        said = now
        done = max(progress.step - first_step, 1)
        left_s = (now - began) / done * (progress.num_steps - progress.step)
        log.info(
            "%s: step %d of %d, %s, %.0f s left", label, progress.step, progress.num_steps, describe(progress), left_s
        )

    yield say
