"""Where Hydra enters: one point or a whole sweep, from its configs to its exit code."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from vae_sweeps.config.compose import compose_sweep
from vae_sweeps.config.errors import RefusedError, UserErrors, one_line
from vae_sweeps.config.identity import short_name
from vae_sweeps.config.point import check_values, to_point
from vae_sweeps.config.schema import LocalLauncher, Point, SlurmLauncher
from vae_sweeps.launch import submit, summary
from vae_sweeps.launch.grid import default_sweep_name
from vae_sweeps.launch.local import run_here
from vae_sweeps.launch.plan import Plan, make_plan
from vae_sweeps.runs import run_folder, states
from vae_sweeps.runs.sweep_folder import log_launch, sweeps_folder, write_sweep
from vae_sweeps.system import files, git
from vae_sweeps.system.logs import start_logging
from vae_sweeps.tracker import account

log = logging.getLogger(__name__)

INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended

# The worst that happened in this process: a sweeper may launch several times.
_exit_code = 0
_wants_traceback = False
# Until a config is composed, whatever goes wrong lies in the command.
_has_composed = False

# One value for all points of a sweep: they say how the launch works, not what a point is.
_OF_THE_LAUNCH = (
    "device",
    "devices",
    "output_dir",
    "sweep",
    "overwrite",
    "checkpoint_every_s",
    "evaluation",
    "tracker",
)


@contextmanager
def _checking() -> Iterator[None]:
    """What goes wrong in here is the user's mistake: nothing has been trained or written yet."""
    try:
        yield
    except UserErrors as error:
        raise RefusedError(one_line(error)) from error


def _exit_refused(line: str) -> NoReturn:
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


def through_the_door(main: Callable[[], Any]) -> None:
    """Run Hydra's `main`: a user's mistake is one line on stderr and exit code 2 (HYDRA_FULL_ERROR=1: a traceback)."""
    global _wants_traceback, _has_composed
    _has_composed = False
    _wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets its errors through instead of printing them its own way
    start_logging()
    try:
        main()
    except (RefusedError, *UserErrors) as error:
        if _wants_traceback or (_has_composed and not isinstance(error, RefusedError)):
            raise
        _exit_refused(str(error) if isinstance(error, RefusedError) else one_line(error))
    sys.exit(_exit_code)


def launch_one(cfg: DictConfig) -> None:
    """Train the one point of a command without -m."""
    global _has_composed
    _has_composed = True
    try:
        with _checking():
            point = to_point(cfg)
            if OmegaConf.get_type(HydraConfig.get().launcher) is SlurmLauncher:
                raise ValueError("hydra/launcher=slurm: must go with -m, also for one point: launch.py -m beta=1 ...")
        _launch([point], [list(HydraConfig.get().overrides.task)], sweep=point.sweep, swept=[])
    except RefusedError as refused:
        if _wants_traceback:
            raise
        _exit_refused(str(refused))  # here, before Hydra announces a failed job in its own words


def launch_sweep(
    config_loader: ConfigLoader, config: DictConfig, job_overrides: Sequence[Sequence[str]]
) -> list[JobReturn]:
    """Train the points that `job_overrides` describe; one return value each, in their order."""
    global _has_composed
    with _checking():
        launcher = _launcher(config)
        sweep_points = [to_point(cfg) for cfg in compose_sweep(config_loader, config, job_overrides)]
    command = OverridesParser.create(config_loader=config_loader).parse_overrides(list(config.hydra.overrides.task))
    swept = [override.key_or_group for override in command if override.is_sweep_override()]
    for key in swept:
        if key.replace("/", ".").split(".")[0] in _OF_THE_LAUNCH:
            raise RefusedError(f"{key}: must be one value; it holds for the whole sweep")
    _has_composed = True
    first = sweep_points[0]
    name = first.sweep or default_sweep_name(short_name(first.data["_target_"]), command, swept)
    values = _launch(
        sweep_points, job_overrides, sweep=name, swept=swept, launcher=launcher, may_detach=_may_detach(config)
    )
    if values is None:
        return []
    return [
        JobReturn(overrides=list(overrides), _return_value=value, status=JobStatus.COMPLETED)
        for overrides, value in zip(job_overrides, values, strict=True)
    ]


def _launcher(config: DictConfig) -> LocalLauncher | SlurmLauncher | None:
    """The settings of hydra/launcher=local or slurm, checked; None for a launcher that is not ours."""
    node = config.hydra.launcher
    if OmegaConf.get_type(node) not in (LocalLauncher, SlurmLauncher):
        return None
    check_values(node, "hydra.launcher.")
    settings = OmegaConf.to_object(node)
    assert isinstance(settings, LocalLauncher | SlurmLauncher)
    return settings


def _may_detach(config: DictConfig) -> bool:
    """Whether the sweeper does without values: ours and Hydra's basic one do."""
    return str(config.hydra.sweeper.get("_target_")).endswith((".GridSweeper", ".BasicSweeper"))


def _launch(
    sweep_points: Sequence[Point],
    overrides: Sequence[Sequence[str]],
    *,
    sweep: str | None,
    swept: Sequence[str],
    launcher: LocalLauncher | SlurmLauncher | None = None,
    may_detach: bool = True,
) -> list[float] | None:
    """Check, skip, group, train and tell. Returns each point's validation ELBO, NaN where it has none; None if the
    jobs of a cluster do the work and nobody waits for them."""
    first = sweep_points[0]
    with _checking():
        account.check(first.tracker.mode)
        sweep_folder = None if sweep is None else sweeps_folder(first.output_dir) / sweep
        queued = set()
        cluster = launcher if isinstance(launcher, SlurmLauncher) else None
        if cluster is not None:
            submit.check(cluster, first.devices)
            assert sweep_folder is not None
            queued = states.runs_in_queue(sweep_folder)
        plan = make_plan(sweep_points, overrides, launcher, queued)
    todo = {folder for pack in plan.packs for folder in pack}

    def create(folder: Path) -> None:
        run_folder.create_run(folder, *plan.unique[folder], git.diff())
        if folder in todo:
            run_folder.clear_run(folder, keep_training=not first.overwrite)

    with ThreadPoolExecutor(16) as pool:  # a thousand points are thousands of small files, each flushed to the disk
        list(pool.map(create, plan.unique))
    if sweep is not None:
        sweep_folder = write_sweep(first.output_dir, sweep, [folder.name for folder in plan.unique], swept)
        entry = {"at": files.now(), "command": sys.argv, "new": [f.name for pack in plan.packs for f in pack]}
        log_launch(sweep_folder, entry)

    if cluster is not None:
        assert sweep_folder is not None
        with _checking():
            is_over = submit.on_cluster(plan, first, cluster, sweep_folder, may_detach=may_detach)
        if not is_over:
            return None
        summary.tell(list(plan.unique), swept, sweep_folder)
        return _values(plan)
    assert not isinstance(launcher, SlurmLauncher)
    was_interrupted = run_here(plan, first, launcher, sweep_folder)
    summary.tell(list(plan.unique), swept, sweep_folder)
    if was_interrupted:
        log.info("interrupted; everything is saved, and the same command goes on from here")
        sys.exit(INTERRUPTED)
    return _values(plan)


def _values(plan: Plan) -> list[float]:
    """Each point's value; sets the exit code."""
    global _exit_code
    results = {folder: run_folder.read_result(folder) for folder in plan.unique}
    if any(result is None or result["status"] != "done" for result in results.values()):
        _exit_code = 1
    return [summary.value(results[folder]) for folder in plan.folders]
