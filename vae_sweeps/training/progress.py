"""Show the progress of packs in training: a live bar on a terminal, log lines from time to time elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from vae_sweeps.system.logs import console

log = logging.getLogger(__name__)

_PLAIN_EVERY_S = 10.0


@dataclass(frozen=True)
class Progress:
    """A pack's progress: `elbo` holds the living points' training ELBOs (nats per image) since the last row."""

    step: int
    num_steps: int
    elbo: list[float]
    images_per_s: float


def describe(progress: Progress) -> str:
    """The ELBO (its range over the pack, nats per image) and the speed, as text."""
    if not progress.elbo:
        return "all points diverged"
    low, high = min(progress.elbo), max(progress.elbo)
    elbo = f"{high:.1f}" if len(progress.elbo) == 1 else f"{low:.1f} .. {high:.1f}"
    return f"train ELBO {elbo} nats, {progress.images_per_s:,.0f} images/s"


@contextmanager
def shown(label: str) -> Iterator[Callable[[Progress], None]]:
    """Show the progress of the pack named `label`; yields the function to call with each `Progress`."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TextColumn("steps,"),
            TimeRemainingColumn(compact=True), TextColumn("left, {task.fields[state]}"),
        )  # fmt: skip
        with Bars(*columns, console=console, transient=True) as bars:
            task = bars.add_task(label, total=None, state="starting")
            yield lambda p: bars.update(task, completed=p.step, total=p.num_steps, state=describe(p))
        return

    started_at = logged_at = time.monotonic()
    first_step: int | None = None

    def log_line(progress: Progress) -> None:
        nonlocal logged_at, first_step
        now = time.monotonic()
        if first_step is None:
            first_step = progress.step
        if now - logged_at < _PLAIN_EVERY_S:
            return
        logged_at = now
        done = max(progress.step - first_step, 1)
        left_s = (now - started_at) / done * (progress.num_steps - progress.step)
        log.info(
            "%s: step %d of %d, %s, %.0f s left", label, progress.step, progress.num_steps, describe(progress), left_s
        )

    yield log_line
