"""Hydra plugins, which must be in this folder. The logic is in `vae_sweeps.launch`, which is imported when needed."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class PackLauncher(Launcher):
    """Trains all points of a sweep in packs, on this machine or on a cluster (conf/hydra/launcher), for any sweeper."""

    def __init__(self, **_: Any) -> None:
        """Ignore the settings: `launch` reads them from the config, where they have types."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """The validation ELBO of each point in nats, NaN if it has none; empty if the jobs were only submitted."""
        from vae_sweeps.launch.entry import launch_sweep

        return launch_sweep(self.hydra_context.config_loader, self.config, job_overrides)


class GridSweeper(Sweeper):
    """Passes all points of a grid or sample (conf/hydra/sweeper) to the launcher, which composes each of them once."""

    def __init__(self, **_: Any) -> None:
        """Ignore the settings: `read_space` reads them from the config, where they have types."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from vae_sweeps.launch.grid import read_space

        assert self.launcher is not None
        assert self.hydra_context is not None
        assert self.config is not None
        space = read_space(self.hydra_context.config_loader, self.config, arguments)
        return self.launcher.launch(space.jobs(), initial_job_idx=0)


class AdaptiveSweeper(GridSweeper):
    """Searches a space with Optuna (conf/hydra/sweeper/adaptive.yaml), a batch of points at a time."""

    def sweep(self, arguments: list[str]) -> Any:
        from vae_sweeps.launch.adaptive import search

        assert self.hydra_context is not None
        assert self.config is not None
        return search(self.hydra_context.config_loader, self.config, arguments)
