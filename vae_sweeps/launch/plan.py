"""A `Plan` says what a launch will do."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from vae_sweeps.launch.runs_of_launch import Runs
from vae_sweeps.runs.known_results import KnownResults
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.rungs import Halving


@dataclass(frozen=True)
class Plan:
    """What a launch will do with its runs: train `packs`, and evaluate `to_evaluate`.

    `results` are those of the runs before the launch. `checkpoint_bytes` is the size of the largest pack's checkpoints.
    `halving` says which runs stop early; then `packed` makes packs of any of them. On this machine, `num_workers` packs
    train side by side.
    """

    runs: Runs
    results: KnownResults
    packs: list[list[RunFolder]]
    to_evaluate: list[RunFolder]
    packed: Callable[[Collection[RunFolder]], list[list[RunFolder]]] | None = None
    checkpoint_bytes: int = 0
    halving: Halving | None = None
    num_workers: int = 1

    @property
    def has_work(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.packs or self.to_evaluate or self.halving)
