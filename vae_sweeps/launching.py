"""From a command to finished points: compose and check all, skip what is done, group the rest, train, tell."""

import hashlib
import itertools
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from vae_sweeps import building, claims, machine, points, progress, store, summary
from vae_sweeps.composing import compose_sweep
from vae_sweeps.config import not_numbers, to_point
from vae_sweeps.errors import UserErrors, one_line
from vae_sweeps.evaluation import parts_left
from vae_sweeps.schema import Evaluation, Point
from vae_sweeps.worker import Conditions, evaluate_runs, new_reference, run_pack

log = logging.getLogger(__name__)

INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended

# The worst that happened in this process: a sweeper may launch several times.
_exit_code = 0
_wants_traceback = False
# Until a config is composed, whatever goes wrong lies in the command.
_has_composed = False

# One value for all points of a sweep: they say how the launch works, not what a point is.
_OF_THE_LAUNCH = ("device", "output_dir", "sweep", "overwrite", "checkpoint_every_s", "evaluation")


class RefusedError(Exception):
    """A command that cannot be run as it stands; the text is the one line that says why."""


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
    progress.start_logging()
    try:
        main()
    except (RefusedError, *UserErrors) as error:
        if _wants_traceback or (_has_composed and not isinstance(error, RefusedError)):
            raise
        _exit_refused(str(error) if isinstance(error, RefusedError) else one_line(error))
    sys.exit(_exit_code)


def expand_grid(config_loader: ConfigLoader, arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of every point of the grid, the last key changing fastest."""
    choices: dict[str, list[str]] = {}
    for override in OverridesParser.create(config_loader=config_loader).parse_overrides(list(arguments)):
        key = override.get_key_element()
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise RefusedError(f"{override.input_line}: a grid needs a list of values, not an interval")
        if override.is_sweep_override():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
            if not choices[key]:
                raise RefusedError(f"{override.input_line}: stands for no value; must be a list of values")
        else:
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    return [list(job) for job in itertools.product(*choices.values())]


def launch_one(cfg: DictConfig) -> None:
    """Train the one point of a command without -m."""
    global _has_composed
    _has_composed = True
    try:
        with _checking():
            point = to_point(cfg)
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
        sweep_points = [to_point(cfg) for cfg in compose_sweep(config_loader, config, job_overrides)]
    command = OverridesParser.create(config_loader=config_loader).parse_overrides(list(config.hydra.overrides.task))
    swept = [override.key_or_group for override in command if override.is_sweep_override()]
    for key in swept:
        if key.replace("/", ".").split(".")[0] in _OF_THE_LAUNCH:
            raise RefusedError(f"{key}: must be one value; it holds for the whole sweep")
    _has_composed = True
    first = sweep_points[0]
    name = first.sweep or default_sweep_name(points.short_name(first.data["_target_"]), command, swept)
    values = _launch(sweep_points, job_overrides, sweep=name, swept=swept)
    return [
        JobReturn(overrides=list(overrides), _return_value=value, status=JobStatus.COMPLETED)
        for overrides, value in zip(job_overrides, values, strict=True)
    ]


def default_sweep_name(data: str, command: Sequence[Override], swept: Sequence[str]) -> str:
    """Data, swept keys and a hash of the command: the same choices in any order and spelling are one sweep."""

    def number(text: str) -> str:
        try:
            return repr(float(text))
        except ValueError:
            return text

    content = {}
    for override in command:
        if override.key_or_group.split(".")[0] in not_numbers():
            continue
        if override.is_discrete_sweep():
            content[override.get_key_element()] = sorted(number(v) for v in override.sweep_string_iterator())
        else:
            content[override.get_key_element()] = [number(override.get_value_element_as_str())]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:6]
    return store.folder_name("-".join([data, *sorted(swept)])) + f"-{digest}"


@dataclass(frozen=True)
class _Plan:
    """What a command comes to: `folders` has one entry for each of its points, in order; equal points share one."""

    folders: list[Path]
    unique: dict[Path, tuple[Point, Sequence[str]]]
    packs: list[list[Path]]
    to_evaluate: list[Path]
    device: torch.device


def _plan(sweep_points: Sequence[Point], overrides: Sequence[Sequence[str]]) -> _Plan:
    """Check everything that can be wrong, and decide what is to be trained in which packs. Writes nothing."""
    first = sweep_points[0]
    device = machine.resolve_device(first.device)
    datasets = [building.load_dataset(point.data) for point in sweep_points]
    shapes = [dataset.image_shape for dataset in datasets]
    costs = [building.cost(point, shape) for point, shape in zip(sweep_points, shapes, strict=True)]
    for data in {id(dataset): point for dataset, point in zip(datasets, sweep_points, strict=True)}.values():
        new_reference(data, first.evaluation, device)
    _check_output_dir(first.output_dir)
    runs = store.runs_folder(first.output_dir)
    folders = [
        runs / points.run_name(point, points.run_id(point, dataset.fingerprint))
        for point, dataset in zip(sweep_points, datasets, strict=True)
    ]
    unique = {folder: (point, job) for folder, point, job in zip(folders, sweep_points, overrides, strict=True)}
    missing = _missing(unique, overwrite=first.overwrite)
    todo = [folders.index(folder) for folder in missing]
    memory_bytes = machine.memory_for_packs(device)
    limits = [sweep_points[i].max_pack or building.pack_limit(sweep_points[i], shapes[i], memory_bytes) for i in todo]
    packs = points.group([sweep_points[i] for i in todo], [costs[i] for i in todo], limits)
    to_evaluate = [folder for folder in unique if folder not in missing and _wants_evaluation(folder, first.evaluation)]
    return _Plan(folders, unique, [[folders[todo[i]] for i in pack] for pack in packs], to_evaluate, device)


def _launch(
    sweep_points: Sequence[Point], overrides: Sequence[Sequence[str]], *, sweep: str | None, swept: Sequence[str]
) -> list[float]:
    """Check, skip, group, train and tell. Returns each point's validation ELBO, NaN where it has none."""
    global _exit_code
    first = sweep_points[0]
    with _checking():
        plan = _plan(sweep_points, overrides)
    todo = [folder for pack in plan.packs for folder in pack]
    for folder, (point, job) in plan.unique.items():
        store.create_run(folder, point, job)
        if first.overwrite and folder in todo:
            store.clear_run(folder)
    sweep_folder = None
    if sweep is not None:
        sweep_folder = store.write_sweep(first.output_dir, sweep, [folder.name for folder in plan.unique], swept)
        entry = {"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "command": sys.argv, "new": [f.name for f in todo]}
        store.log_launch(sweep_folder, entry)

    if todo:
        log.info("%s to train in %s on %s", _count(len(todo), "point"), _count(len(plan.packs), "pack"), plan.device)
    machine.prepare(plan.device)
    with machine.stop_signals() as should_stop:
        conditions = Conditions(plan.device, first.checkpoint_every_s, should_stop, first.evaluation)
        for i, pack in enumerate(plan.packs):
            if not should_stop():
                run_pack(pack, conditions, label=f"pack {i + 1}/{len(plan.packs)} ({_count(len(pack), 'point')})")
        if plan.to_evaluate:
            log.info("%s to evaluate", _count(len(plan.to_evaluate), "point"))
            evaluate_runs(plan.to_evaluate, conditions)
        was_interrupted = should_stop()
    results = {folder: store.read_result(folder) for folder in plan.unique}
    summary.tell(list(plan.unique), swept, sweep_folder)
    if was_interrupted:
        log.info("interrupted; everything is saved, and the same command goes on from here")
        sys.exit(INTERRUPTED)
    if any(result is None or result["status"] != "done" for result in results.values()):
        _exit_code = 1
    return [summary.value(results[folder]) for folder in plan.folders]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _check_output_dir(output_dir: str) -> None:
    """Raise ValueError unless runs can be made under `output_dir`; makes nothing."""
    path = Path(output_dir).absolute()
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = "not a folder" if not existing.is_dir() else error.strerror
        raise ValueError(
            f"output_dir={output_dir}: cannot be written ({existing}: {reason}); choose a folder that can be"
        ) from error


def _wants_evaluation(folder: Path, how: Evaluation) -> bool:
    """Whether a part that `how` asks for was never made; parts made by other settings stay as they are."""
    result = store.read_result(folder)
    is_done = result is not None and result["status"] == "done" and not claims.is_held(folder)
    return is_done and bool(parts_left(result or {}, how))


def _missing(unique: Mapping[Path, object], *, overwrite: bool) -> list[Path]:
    """The runs to train; says what is left out and why."""
    missing, num_done = [], 0
    for folder in unique:
        if claims.is_held(folder):
            log.info("%s is being trained by another process; left to it", folder.name)
        elif store.read_result(folder) is not None and not overwrite:
            num_done += 1
        else:
            missing.append(folder)
    if num_done:
        log.info("%d of %s done already", num_done, _count(len(unique), "point"))
    return missing
