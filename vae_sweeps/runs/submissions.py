"""Which jobs of SLURM train which runs of a sweep, as its jobs.jsonl says."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vae_sweeps.system.logs import warn_once


@dataclass(frozen=True)
class Submissions:
    """The runs of each task of a sweep, by name, and the runs for which the queue had no room.

    `own` holds the runs that a task trains alone, oldest task first. `workers` holds the tasks that share the sweep's
    points, with the runs that were missing when they were submitted.
    """

    own: Mapping[str, Sequence[str]]
    workers: Mapping[str, Sequence[str]]
    unsubmitted: Sequence[str] = ()

    @cached_property
    def task_of(self) -> dict[str, str]:
        """The newest task of each run that was submitted in a job of its own."""
        return {run: task for task, runs in self.own.items() for run in runs}

    @cached_property
    def runs_of(self) -> dict[str, Sequence[str]]:
        """The runs of each task, workers included."""
        return {**self.own, **self.workers}

    @cached_property
    def _shared(self) -> dict[str, frozenset[str]]:
        return {task: frozenset(runs) for task, runs in self.workers.items()}

    def tasks_of(self, run: str) -> list[str]:
        """The tasks that may work on the run: its newest own one, and workers."""
        own = [self.task_of[run]] if run in self.task_of else []
        return own + [task for task, runs in self._shared.items() if run in runs]


def parse(entries: Iterable[Mapping[str, Any]], damaged: str) -> Submissions:
    """Read the entries of a jobs.jsonl, oldest first. Warns with the text `damaged` of entries of another shape."""
    own, workers, unsubmitted = dict[str, list[str]](), dict[str, list[str]](), list[str]()
    for entry in entries:
        tasks = entry.get("tasks")
        if isinstance(tasks, dict) and all(isinstance(runs, list) for runs in tasks.values()):
            for task, runs in tasks.items():
                own[task] = _names(runs)
        elif isinstance(entry.get("workers"), list) and isinstance(entry.get("runs"), list):
            workers |= dict.fromkeys(_names(entry["workers"]), _names(entry["runs"]))
        elif isinstance(entry.get("unsubmitted"), list):
            unsubmitted = _names(entry["unsubmitted"])
        else:
            warn_once(damaged)
    return Submissions(own, workers, unsubmitted)


def _names(values: list[Any]) -> list[str]:
    return [str(value) for value in values]
