"""Results that are read once, where several parts of a command need them."""

from collections.abc import Iterable, Mapping
from typing import Any

from vae_sweeps.runs.run_folder import RunFolder


class KnownResults:
    """The results of runs, as they were when they were first asked for. A run without a result is read again."""

    def __init__(self) -> None:
        self._known: dict[RunFolder, Mapping[str, Any]] = {}

    def of(self, run: RunFolder) -> Mapping[str, Any] | None:
        """The run's result, or None if it has none yet."""
        known = self._known.get(run)
        if known is None and (known := run.read_result()) is not None:
            self._known[run] = known
        return known

    def forget(self, runs: Iterable[RunFolder]) -> None:
        """Read the results of `runs` again, which have been trained or evaluated since."""
        for run in runs:
            self._known.pop(run, None)
