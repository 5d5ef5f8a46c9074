"""What Hydra calls: launch one point or a sweep, from the composed configs to the exit code."""

import logging
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from vae_sweeps.config import trust
from vae_sweeps.config.compose import compose_points
from vae_sweeps.config.errors import RefusedError
from vae_sweeps.config.identity import short_name
from vae_sweeps.config.keys import option_names
from vae_sweeps.config.launch_options import LaunchOptions
from vae_sweeps.config.launchers import LocalLauncher, SlurmLauncher
from vae_sweeps.config.point import check_values, to_command
from vae_sweeps.config.schema import Point
from vae_sweeps.config.secrets import hide_in_override
from vae_sweeps.launch import submit, summary
from vae_sweeps.launch.door import checking, current_invocation, exit_refused
from vae_sweeps.launch.grid import default_sweep_name
from vae_sweeps.launch.local import run_here
from vae_sweeps.launch.plan import Launch, Plan, make_plan
from vae_sweeps.runs import claims, states
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files, git
from vae_sweeps.tracker import account

log = logging.getLogger(__name__)

INTERRUPTED = 130  # the exit code that shells report after Ctrl-C


def launch_one(cfg: DictConfig) -> None:
    """Train the single point of a command without -m."""
    invocation = current_invocation()
    invocation.has_composed = True
    try:
        with checking():
            point, options = to_command(cfg)
            if OmegaConf.get_type(HydraConfig.get().launcher) is SlurmLauncher:
                raise ValueError("hydra/launcher=slurm: must be used with -m, even for one point: launch.py -m beta=1")
            sweep = None if options.sweep is None else SweepFolder.under(options.output_dir, options.sweep)
        overrides = [list(HydraConfig.get().overrides.task)]
        _carry_out(Launch([point], overrides, options, sweep=sweep, allowed=_composed([point], options)))
    except RefusedError as refused:
        if invocation.wants_traceback:
            raise
        exit_refused(str(refused))  # exit before Hydra prints its own message about a failed job


def launch_sweep(
    config_loader: ConfigLoader, config: DictConfig, job_overrides: Sequence[Sequence[str]]
) -> list[JobReturn]:
    """Train the points that `job_overrides` describe; returns one value per point, in the same order."""
    with checking():
        launcher = _launcher(config)
        points, options = zip(*compose_points(config_loader, config, job_overrides), strict=True)
    command = OverridesParser.create(config_loader=config_loader).parse_overrides(list(config.hydra.overrides.task))
    swept = [override.key_or_group for override in command if override.is_sweep_override()]
    for key in swept:
        if key.replace("/", ".").split(".")[0] in option_names():
            raise RefusedError(f"{key}: must be one value; it applies to the whole sweep")
    current_invocation().has_composed = True
    name = options[0].sweep or default_sweep_name(short_name(points[0].data["_target_"]), command, swept)
    sweep = SweepFolder.under(options[0].output_dir, name)
    launch = Launch(points, job_overrides, options[0], launcher, sweep, swept, _composed(points, options[0]))
    values = _carry_out(launch, may_detach=_may_detach(config))
    if values is None:
        return []
    return [
        JobReturn(overrides=list(overrides), _return_value=value, status=JobStatus.COMPLETED)
        for overrides, value in zip(job_overrides, values, strict=True)
    ]


def _composed(points: Sequence[Point], options: LaunchOptions) -> frozenset[str]:
    """What the command's own configs name, which may therefore be called."""
    return trust.targets_of_points(points) | trust.targets_of_options(options)


def _launcher(config: DictConfig) -> LocalLauncher | SlurmLauncher | None:
    """The checked settings of hydra/launcher=local or slurm; None for any other launcher."""
    node = config.hydra.launcher
    if OmegaConf.get_type(node) not in (LocalLauncher, SlurmLauncher):
        return None
    check_values(node, "hydra.launcher.")
    settings = OmegaConf.to_object(node)
    assert isinstance(settings, LocalLauncher | SlurmLauncher)
    return settings


def _may_detach(config: DictConfig) -> bool:
    """Whether the sweeper ignores return values, as our sweeper and Hydra's basic one do."""
    return str(config.hydra.sweeper.get("_target_")).endswith((".GridSweeper", ".BasicSweeper"))


def _carry_out(launch: Launch, *, may_detach: bool = True) -> list[float] | None:
    """Check the points, train those that are not done, and show the results.

    Returns the validation ELBO of each point, NaN if it has none; None if the points were only submitted to a cluster.
    """
    with trust.allowing(launch.allowed):
        return _check_and_train(launch, may_detach=may_detach)


def _check_and_train(launch: Launch, *, may_detach: bool) -> list[float] | None:
    with checking():
        account.check(launch.options.tracker.mode)
        queued = set()
        if launch.cluster is not None:
            assert launch.sweep is not None
            submit.check(launch.cluster, launch.options.devices)
            queued = states.runs_in_queue(launch.sweep)
        plan = make_plan(launch, queued)
    _make_folders(plan, launch)
    if launch.cluster is not None:
        with checking():
            is_over = submit.on_cluster(plan, launch, may_detach=may_detach)
        if not is_over:
            return None
        was_interrupted = False
    else:
        was_interrupted = run_here(plan, launch)
    results = plan.results
    results.forget([*(run for pack in plan.packs for run in pack), *plan.to_evaluate])
    summary.show(list(plan.unique), launch.swept, launch.sweep, results)
    if was_interrupted:
        log.info("interrupted; everything is saved, and the same command resumes")
        sys.exit(INTERRUPTED)
    ended = [results.of(run) for run in plan.folders]
    if any(result is None or result["status"] != "done" for result in ended):
        current_invocation().exit_code = 1
    return [summary.value(result) for result in ended]


def _make_folders(plan: Plan, launch: Launch) -> None:
    """Create the folders of the runs and the sweep, and record the launch."""
    todo = {run for pack in plan.packs for run in pack}

    def create(run: RunFolder) -> None:
        point, overrides = plan.unique[run]
        run.create(point, launch.options, overrides, git.diff(), plan.data_fingerprints[run])
        if run in todo and (launch.options.overwrite or run.failure.exists()):
            with claims.taken([run]) as claimed:  # else another process has just begun to train it
                for ours in claimed:
                    ours.clear(keep_training=not launch.options.overwrite)
        elif run not in todo:
            claims.remove_stale(run)

    with ThreadPoolExecutor(16) as pool:  # each point has several small files, which are flushed to the disk
        list(pool.map(create, plan.unique))
    if launch.sweep is not None:
        launch.sweep.add([run.name for run in plan.unique], launch.swept)
        new = [run.name for pack in plan.packs for run in pack]
        command = [hide_in_override(argument) for argument in sys.argv]
        launch.sweep.log_launch({"at": files.now(), "command": command, "new": new})
