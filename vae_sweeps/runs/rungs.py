"""Successive halving: which runs of a sweep go on after each rung, and which stop. Does not import torch.

All runs of a bracket train to the same epoch, a rung. The best 1/reduction_factor of them go on to the next rung, the
others stop. What was decided is written to the sweep's folder before anything follows from it, so that a process that
is killed and started again does the same. (Jamieson and Talwalkar, 2016; Li et al., 2018, for several brackets.)
"""

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from vae_sweeps.runs import catalogue
from vae_sweeps.runs.run_folder import STOPPED, RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files
from vae_sweeps.system.logs import count

log = logging.getLogger(__name__)


class Rung(NamedTuple):
    """Where training pauses: after `epochs` epochs. With `is_end`, the runs that reach it are stopped there."""

    epochs: int
    is_end: bool = False


class Stage(NamedTuple):
    """The runs that have to be trained next, together, to a rung; to their end if it is None."""

    runs: list[RunFolder]
    rung: Rung | None


@dataclass(frozen=True)
class Bracket:
    """Runs that compete with each other, by name, and the epochs of their rungs."""

    runs: tuple[str, ...]
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class Halving:
    """How the runs of a sweep are halved."""

    metric: str
    reduction_factor: int
    brackets: tuple[Bracket, ...]

    def write(self, sweep: SweepFolder) -> None:
        """Write it into the sweep's folder, where workers read it."""
        brackets = [{"runs": bracket.runs, "epochs": bracket.epochs} for bracket in self.brackets]
        content = {"metric": self.metric, "reduction_factor": self.reduction_factor, "brackets": brackets}
        files.write_whole(sweep.halving, files.seal(content))

    @classmethod
    def read(cls, sweep: SweepFolder) -> "Halving | None":
        """Read what the last launch of the sweep wrote; None if it had no halving. Raises DamagedError."""
        try:
            content = files.unseal(sweep.halving.read_bytes(), sweep.halving, "launch the sweep's command again")
        except FileNotFoundError:
            return None
        brackets = (Bracket(tuple(one["runs"]), tuple(one["epochs"])) for one in content["brackets"])
        return cls(content["metric"], content["reduction_factor"], tuple(brackets))

    def num_kept(self, num_runs: int) -> int:
        """How many of the runs that reach a rung go on."""
        return max(1, num_runs // self.reduction_factor)

    def next_stages(self, sweep: SweepFolder) -> list[Stage]:
        """What has to be trained next in each bracket; empty if every run has ended. Decides what can be decided.

        One process at a time may call this.
        """
        return [stage for bracket in self.brackets if (stage := self._next(sweep, bracket)) is not None]

    def _next(self, sweep: SweepFolder, bracket: Bracket) -> Stage | None:
        runs = [sweep.run(name) for name in bracket.runs]
        for epochs in bracket.epochs:
            if len(runs) == 1:
                break  # nothing to decide
            name = self._name(bracket, epochs)
            decided = sweep.read_rung(name)
            if decided is None:
                values = {run: _value_at(run, epochs, self.metric) for run in runs}
                missing = [run for run, value in values.items() if value is None and not _is_over(run)]
                if missing:
                    return Stage(missing, Rung(epochs))
                decided = self._decide(epochs, values)
                sweep.write_rung(name, decided)
            kept = set(decided["kept"])
            leaving = [run for run in runs if run.name not in kept and not run.has_ended()]
            if leaving:
                return Stage(leaving, Rung(epochs, is_end=True))
            runs = [run for run in runs if run.name in kept]
        left = [run for run in runs if not _is_over(run)]
        return Stage(left, None) if left else None

    def _decide(self, epochs: int, values: Mapping[RunFolder, float | None]) -> dict[str, Any]:
        """Which of the runs with these values go on."""
        metric = catalogue.find(self.metric)
        sign = -1 if metric is not None and metric.better == "higher" else 1
        ranked = sorted((sign * value, i) for i, value in enumerate(values.values()) if value is not None)
        names = [run.name for run in values]
        kept = [names[i] for _, i in ranked[: self.num_kept(len(names))]]
        log.info("after %s, %d of %s go on", count(epochs, "epoch"), len(kept), count(len(names), "point"))
        by_name = {run.name: value for run, value in values.items()}
        return {"at": files.now(), "epochs": epochs, "metric": self.metric, "values": by_name, "kept": kept}

    def _name(self, bracket: Bracket, epochs: int) -> str:
        """A name for what the decision at a rung depends on, besides the numbers."""
        content = [self.metric, self.reduction_factor, sorted(bracket.runs), [e for e in bracket.epochs if e <= epochs]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _is_over(run: RunFolder) -> bool:
    """Whether the run cannot go on: it is done, has diverged or has failed."""
    result = run.read_result()
    return run.failure.exists() if result is None else result["status"] != STOPPED


def _value_at(run: RunFolder, epochs: int, metric: str) -> float | None:
    """The metric of the run's row after `epochs` epochs; None if there is none, or it is not finite."""
    for row in run.read_rows():
        value = row.get(metric)
        if row.get("epoch") == epochs and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    return None


def rungs_of(min_epochs: int, reduction_factor: int, num_epochs: float) -> Iterator[int]:
    """The epochs of the rungs: min_epochs, and then reduction_factor times as many each, below `num_epochs`."""
    epochs = min_epochs
    while epochs < num_epochs:
        yield epochs
        epochs *= reduction_factor


def brackets_of(
    runs: Sequence[str], min_epochs: int, reduction_factor: int, num_epochs: float, num_brackets: int
) -> tuple[Bracket, ...]:
    """Divide `runs`, by name, among brackets, each of which begins one rung later than the one before.

    With several brackets, their sizes have Hyperband's proportions, and the runs are assigned at random, by their ids.
    """
    rungs = list(rungs_of(min_epochs, reduction_factor, num_epochs))
    if num_brackets == 1:
        return (Bracket(tuple(runs), tuple(rungs)),)
    # Hyperband's n of a bracket with s more rungs than the last one: ceil(B / (s+1) * eta^s) (Li et al., algorithm 1).
    sizes = [math.ceil(num_brackets / (s + 1) * reduction_factor**s) for s in reversed(range(num_brackets))]
    ends = [len(runs) * sum(sizes[: i + 1]) // sum(sizes) for i in range(num_brackets)]
    order = {name: i for i, name in enumerate(sorted(runs, key=_at_random))}

    @cache
    def place(name: str) -> int:
        return next(i for i, end in enumerate(ends) if order[name] < end)

    parts = [tuple(name for name in runs if place(name) == i) for i in range(num_brackets)]
    return tuple(Bracket(part, tuple(rungs[i:])) for i, part in enumerate(parts) if part)


def _at_random(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def described(bracket: Bracket, halving: Halving) -> str:
    """The rungs in words, such as `27 points for 5 epochs, 9 for 15, 3 for 45, and 1 to the end`."""
    number, parts = len(bracket.runs), list[str]()
    for i, epochs in enumerate(bracket.epochs):
        if number == 1:
            break
        words = (count(number, "point"), count(epochs, "epoch")) if i == 0 else (str(number), str(epochs))
        parts.append(" for ".join(words))
        number = halving.num_kept(number)
    return f"{', '.join(parts)}, and {number} to the end" if parts else f"{count(number, 'point')} to the end"
