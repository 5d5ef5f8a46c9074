"""What a command requests."""

from collections.abc import Sequence
from dataclasses import dataclass

from vae_sweeps.config.launch_options import LaunchOptions
from vae_sweeps.config.launchers import LocalLauncher, SlurmLauncher
from vae_sweeps.config.schema import Point
from vae_sweeps.config.sweepers import HalvingSettings
from vae_sweeps.runs.rungs import Halving
from vae_sweeps.runs.sweep_folder import SweepFolder


@dataclass(frozen=True)
class Launch:
    """What a command requests: its points, the overrides of each point, and options for all of them.

    `sweep` and `swept` (the swept keys) are set for a command with -m. `launcher` is None for other launchers.
    `largest_pack` bounds the packs besides the points' own limits, if an earlier job ran out of memory. `allowed` are
    the addresses that the points and the options may call, besides vae-sweeps' own (`config.trust`). A launch
    `is_batch` if more follow before the sweep has ended, so that its results are shown later. `halving` is None if all
    points train to their end, and a `Halving` if an earlier launch is repeated.
    """

    points: Sequence[Point]
    overrides: Sequence[Sequence[str]]
    options: LaunchOptions
    launcher: LocalLauncher | SlurmLauncher | None = None
    sweep: SweepFolder | None = None
    swept: Sequence[str] = ()
    allowed: frozenset[str] = frozenset()
    largest_pack: int | None = None
    is_batch: bool = False
    halving: HalvingSettings | Halving | None = None

    @property
    def cluster(self) -> SlurmLauncher | None:
        """The settings of SLURM jobs, if the launch submits any."""
        return self.launcher if isinstance(self.launcher, SlurmLauncher) else None

    @property
    def workers(self) -> int | None:
        """The number of processes that train side by side on this machine, if the command says so."""
        wanted = self.launcher.workers if isinstance(self.launcher, LocalLauncher) else "auto"
        return wanted if isinstance(wanted, int) else None
