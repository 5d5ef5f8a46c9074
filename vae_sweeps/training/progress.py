"""Show the progress of packs in training: a live bar on a terminal, log lines from time to time elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from vae_sweeps.system.bars import Bars
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


def describe(progress: Progress) -> list[str]:
    """The ELBO (its range over the pack, nats per image) and the speed, as text: from the longest to the shortest."""
    if not progress.elbo:
        return ["all points diverged", "diverged"]
    low, high = min(progress.elbo), max(progress.elbo)
    elbo = f"{high:.1f}" if len(progress.elbo) == 1 else f"{low:.1f} .. {high:.1f}"
    of_training = f"train ELBO {elbo} nats"
    return [f"{of_training}, {progress.images_per_s:,.0f} images/s", of_training, f"ELBO {elbo}", elbo]


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
        self._tasks[label] = self._bars.add_task(label, total=None, state=[], unit="steps")

    def update(self, label: str, progress: Progress) -> None:
        """Move the bar of the pack."""
        state = describe(progress) if progress.step < progress.num_steps else ["evaluating"]
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
    bar = BarColumn(None, table_column=Column(max_width=20))  # narrower where there is no room
    columns = (TextColumn("{task.description}"), bar, _Amount(table_column=Column(no_wrap=True)), _State())
    return Bars(*columns, console=console, transient=True)


class _Amount(ProgressColumn):
    """Such as `120/1000 steps, 0:01:05 left`; `starting` before the number of steps is known."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text("starting")
        left = "" if task.time_remaining is None else f", {timedelta(seconds=round(task.time_remaining))} left"
        return Text(f"{task.completed:.0f}/{task.total:.0f} {task.fields['unit']}{left}")


class _State(ProgressColumn):
    """The longest of the task's texts for which the line has room. The other columns are shown whole."""

    def render(self, task: Task) -> "_Longest":  # type: ignore[override]
        return _Longest([f"· {text}" for text in task.fields["state"]])


@dataclass(frozen=True)
class _Longest:
    texts: Sequence[str]

    def __rich_measure__(self, _: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(0, max(map(len, self.texts), default=0)).with_maximum(options.max_width)

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        fitting = (text for text in self.texts if len(text) <= options.max_width)
        yield Text(next(fitting, ""), no_wrap=True)


@contextmanager
def evaluating(num_runs: int, *, is_hidden: bool = False) -> Iterator[Callable[[], None]]:
    """Show a bar over the runs to evaluate on a terminal, if there are several; yields what to call after each."""
    if is_hidden or num_runs < 2 or not console.is_terminal:
        yield lambda: None
        return
    with _bars() as bars:
        task = bars.add_task("evaluating", total=num_runs, state=[], unit="runs")
        yield lambda: bars.advance(task)


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
        state = describe(progress)[0]
        log.info("%s: step %d of %d, %s, %.0f s left", label, progress.step, progress.num_steps, state, left_s)

    yield log_line
