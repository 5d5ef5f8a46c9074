"""Show the progress of packs in training: a live bar on a terminal, log lines from time to time elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
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


def of_rows(rows: Sequence[Mapping[str, Any]]) -> Progress:
    """The progress of a pack whose points have written these rows last."""
    first = rows[0]
    elbo = [float(row["train/elbo"]) for row in rows]
    return Progress(int(first["step"]), int(first["num_steps"]), elbo, float(first["images_per_s"]))


class Several:
    """The bars of several packs, by label."""

    def __init__(self, bars: Bars) -> None:
        self._bars, self._tasks = bars, dict[str, TaskID]()

    def add(self, label: str) -> None:
        """Show a bar for the pack, which starts."""
        self._tasks[label] = self._bars.add_task(label, total=None, state="starting")

    def update(self, label: str, progress: Progress) -> None:
        """Move the bar of the pack."""
        state = describe(progress) if progress.step < progress.num_steps else "evaluating"
        self._bars.update(self._tasks[label], completed=progress.step, total=progress.num_steps, state=state)

    def remove(self, label: str) -> None:
        """Remove the bar of the pack, which has ended."""
        self._bars.remove_task(self._tasks.pop(label))


@contextmanager
def several() -> Iterator[Several | None]:
    """Show bars of several packs on a terminal; yields None elsewhere."""
    if not console.is_terminal:
        yield None
        return
    with _bars() as bars:
        yield Several(bars)


def _bars() -> Bars:
    columns = (
        TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TextColumn("steps,"),
        TimeRemainingColumn(compact=True), TextColumn("left, {task.fields[state]}"),
    )  # fmt: skip
    return Bars(*columns, console=console, transient=True)


@contextmanager
def shown(label: str, *, is_hidden: bool = False) -> Iterator[Callable[[Progress], None]]:
    """Show the progress of the pack named `label`; yields the function to call with each `Progress`."""
    if is_hidden:
        yield lambda _: None
        return
    if console.is_terminal:
        with _bars() as bars:
            own = Several(bars)
            own.add(label)
            yield lambda p: own.update(label, p)
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
