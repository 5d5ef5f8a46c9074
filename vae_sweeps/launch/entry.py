"""What Hydra calls: launch one point or a sweep, given the composed configs.

What carries out a launch is imported when the config is known to be right: torch takes seconds, and a mistake is
answered at once.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from vae_sweeps.config import trust
from vae_sweeps.config.compose import compose_points
from vae_sweeps.config.errors import RefusedError
from vae_sweeps.config.identity import short_name
from vae_sweeps.config.keys import option_names
from vae_sweeps.config.launch_options import LaunchOptions
from vae_sweeps.config.launchers import LocalLauncher, SlurmLauncher
from vae_sweeps.config.point import check_names, check_values, to_command
from vae_sweeps.config.schema import Point
from vae_sweeps.config.sweepers import AdaptiveSweeper
from vae_sweeps.launch.door import checking, current_invocation, exit_refused
from vae_sweeps.launch.grid import check_is_for_one, check_optimized, checked_settings, default_sweep_name, read_space
from vae_sweeps.launch.request import Launch
from vae_sweeps.runs.sweep_folder import SweepFolder


def launch_one(cfg: DictConfig) -> None:
    """Train the single point of a command without -m."""
    invocation = current_invocation()
    invocation.has_composed = True
    try:
        with checking():
            point, options = to_command(cfg)
            if isinstance(_launcher(HydraConfig.get().launcher), SlurmLauncher):
                raise ValueError("hydra/launcher=slurm: must be used with -m, even for one point: launch.py -m beta=1")
            check_is_for_one(HydraConfig.get().sweeper)
            sweep = None if options.sweep is None else SweepFolder.under(options.output_dir, options.sweep)
        from vae_sweeps.launch.carry_out import carry_out

        overrides = [list(HydraConfig.get().overrides.task)]
        carry_out(Launch([point], overrides, options, sweep=sweep, allowed=_composed([point], options)))
    except RefusedError as refused:
        if invocation.wants_traceback:
            raise
        exit_refused(str(refused))  # exit before Hydra prints its own message about a failed job


def launch_sweep(
    config_loader: ConfigLoader, config: DictConfig, job_overrides: Sequence[Sequence[str]]
) -> list[JobReturn]:
    """Train the points that `job_overrides` describe; returns one value per point, in the same order."""
    launch = make_launch(config_loader, config, job_overrides)
    from vae_sweeps.launch.carry_out import carry_out

    ended = carry_out(launch, may_detach=_may_detach(config))
    if ended is None:
        return []
    from vae_sweeps.launch import summary

    column = launch.options.optimized_metric
    return [
        JobReturn(overrides=list(overrides), _return_value=summary.value(result, column), status=JobStatus.COMPLETED)
        for overrides, (_, result) in zip(job_overrides, ended, strict=True)
    ]


def make_launch(config_loader: ConfigLoader, config: DictConfig, job_overrides: Sequence[Sequence[str]]) -> Launch:
    """What the command requests for these points. Raises RefusedError for a mistake in it."""
    with checking():
        launcher = _launcher(config.hydra.launcher)
        points, options = zip(*compose_points(config_loader, config, job_overrides), strict=True)
    space = read_space(config_loader, config, config.hydra.overrides.task)
    for key in space.swept:
        if key.replace("/", ".").split(".")[0] in option_names():
            raise RefusedError(f"{key}: must be one value; it applies to the whole sweep")
    current_invocation().has_composed = True
    with checking():
        check_optimized(options[0].optimized_metric, config.hydra.sweeper)
    data = short_name(points[0].data["_target_"])
    settings = checked_settings(config.hydra.sweeper)
    content = space.content() | (_of_search(settings) if isinstance(settings, AdaptiveSweeper) else {})
    name = options[0].sweep or default_sweep_name(data, space.swept, content)
    sweep = SweepFolder.under(options[0].output_dir, name)
    return Launch(
        points,
        job_overrides,
        options[0],
        launcher,
        sweep,
        space.swept,
        _composed(points, options[0]),
        halving=settings.halving if settings is not None and settings.halving.min_epochs is not None else None,
    )


def _of_search(settings: AdaptiveSweeper) -> dict[str, Any]:
    """What identifies a search, besides its space."""
    return {"objective": settings.objective, "direction": settings.direction, "repeats": settings.repeats}


def _composed(points: Sequence[Point], options: LaunchOptions) -> frozenset[str]:
    """What the command's own configs name, which may therefore be called."""
    return trust.targets_of_points(points) | trust.targets_of_options(options)


def _launcher(node: DictConfig) -> LocalLauncher | SlurmLauncher | None:
    """The checked settings of hydra/launcher=local or slurm; None for any other launcher."""
    if OmegaConf.get_type(node) not in (LocalLauncher, SlurmLauncher):
        return None
    check_names(node, "hydra.launcher")
    check_values(node, "hydra.launcher.")
    settings = OmegaConf.to_object(node)
    assert isinstance(settings, LocalLauncher | SlurmLauncher)
    return settings


def _may_detach(config: DictConfig) -> bool:
    """Whether the sweeper ignores return values, as our sweeper and Hydra's basic one do."""
    return str(config.hydra.sweeper.get("_target_")).endswith((".GridSweeper", ".BasicSweeper"))
