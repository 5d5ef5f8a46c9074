"""From a command to finished points: compose and check all, skip what is done, group the rest, train, tell."""

import hashlib
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from vae_sweeps import building, claims, machine, points, progress, store, summary
from vae_sweeps.config import GROUP_SCHEMAS, Point, not_numbers, to_point
from vae_sweeps.errors import UserErrors, one_line
from vae_sweeps.worker import Conditions, run_pack

log = logging.getLogger(__name__)

INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended

# The worst that happened in this process: a sweeper may launch several times.
_exit_code = 0


def register_schemas() -> None:
    """Tell Hydra the types of all keys; conf/*.yaml names these schemas in its defaults."""
    store_ = ConfigStore.instance()
    store_.store(name="point_schema", node=Point)
    for (group, name), schema in GROUP_SCHEMAS.items():
        store_.store(group=group, name=name, node=schema)


def through_the_door(main: Callable[[], Any]) -> None:
    """Run Hydra's `main`: a user's mistake is one line on stderr and exit code 2 (HYDRA_FULL_ERROR=1: a traceback)."""
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets its errors through instead of printing them its own way
    progress.start_logging()
    try:
        main()
    except UserErrors as error:
        if wants_traceback:
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(_exit_code)


def expand_grid(config_loader: ConfigLoader, arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of every point of the grid, the last key changing fastest."""
    choices: dict[str, list[str]] = {}
    for override in OverridesParser.create(config_loader=config_loader).parse_overrides(list(arguments)):
        key = override.get_key_element()
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ValueError(f"{override.input_line}: a grid needs a list of values; intervals are for other sweepers")
        if override.is_sweep_override():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    return [list(job) for job in itertools.product(*choices.values())]


def launch_one(cfg: DictConfig) -> None:
    """Train the one point of a command without -m."""
    from hydra.core.hydra_config import HydraConfig

    point = to_point(cfg)
    overrides = list(HydraConfig.get().overrides.task)
    _launch([point], [overrides], sweep=point.sweep, swept=[])


def launch_sweep(
    config_loader: ConfigLoader, config: DictConfig, job_overrides: Sequence[Sequence[str]]
) -> list[JobReturn]:
    """Train the points that `job_overrides` describe; one return value each, in their order."""
    composed = [config_loader.load_sweep_config(config, list(overrides)) for overrides in job_overrides]
    sweep_points = []
    for cfg in composed:
        OmegaConf.set_struct(cfg, False)
        cfg.pop("hydra", None)
        sweep_points.append(to_point(cfg))
    command = OverridesParser.create(config_loader=config_loader).parse_overrides(list(config.hydra.overrides.task))
    swept = [override.key_or_group for override in command if override.is_sweep_override()]
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
    return store.folder_name("-".join([data, *swept])) + f"-{digest}"


def _launch(
    sweep_points: Sequence[Point], overrides: Sequence[Sequence[str]], *, sweep: str | None, swept: Sequence[str]
) -> list[float]:
    """Check, skip, group, train and tell. Returns each point's validation ELBO, NaN where it has none."""
    global _exit_code
    first = sweep_points[0]
    device = machine.resolve_device(first.device)
    datasets = [building.load_dataset(point.data) for point in sweep_points]
    for point, dataset in zip(sweep_points, datasets, strict=True):
        building.num_params(point, dataset.image_shape)  # raises where network and images do not fit
    _check_output_dir(first.output_dir)
    runs = store.runs_folder(first.output_dir)
    folders = [
        runs / points.run_name(point, points.run_id(point, dataset.fingerprint))
        for point, dataset in zip(sweep_points, datasets, strict=True)
    ]
    # Two spellings of one point are one run.
    unique = {folder: (point, job) for folder, point, job in zip(folders, sweep_points, overrides, strict=True)}
    todo = _skip(unique, overwrite=first.overwrite)
    for folder, (point, job) in unique.items():
        store.create_run(folder, point, job)
    sweep_folder = None
    if sweep is not None:
        sweep_folder = store.write_sweep(first.output_dir, sweep, [folder.name for folder in unique], swept)
        entry = {"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "command": sys.argv, "new": [f.name for f in todo]}
        store.log_launch(sweep_folder, entry)

    packs = _group(todo, [unique[folder][0] for folder in todo], device)
    if todo:
        log.info("%d points to train in %d packs on %s", len(todo), len(packs), device)
    machine.prepare(device)
    with machine.stop_signals() as should_stop:
        conditions = Conditions(device, first.checkpoint_every_s, should_stop)
        for i, pack in enumerate(packs):
            if not should_stop():
                run_pack(pack, conditions, label=f"pack {i + 1}/{len(packs)} ({len(pack)} points)")
        was_interrupted = should_stop()
    results = {folder: store.read_result(folder) for folder in unique}
    summary.tell(first.output_dir, list(unique), sweep_folder)
    if was_interrupted:
        _exit_code = INTERRUPTED
        log.info("interrupted; everything is saved, and the same command goes on from here")
    elif any(result is None or result["status"] != "done" for result in results.values()):
        _exit_code = max(_exit_code, 1)
    return [summary.value(results[folder]) for folder in folders]


def _check_output_dir(output_dir: str) -> None:
    """Raise ValueError unless runs can be made under `output_dir`."""
    try:
        store.runs_folder(output_dir).mkdir(parents=True, exist_ok=True)
        probe = store.runs_folder(output_dir) / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"output_dir={output_dir}: cannot be written ({error.strerror}); choose a folder that can"
        ) from error


def _skip(unique: Mapping[Path, tuple[Point, Sequence[str]]], *, overwrite: bool) -> list[Path]:
    """The runs to train; says what is left out and why. With `overwrite`, what was there is removed."""
    todo, done, elsewhere = [], [], []
    for folder in unique:
        if claims.is_held(folder):
            elsewhere.append(folder)
        elif store.read_result(folder) is not None and not overwrite:
            done.append(folder)
        else:
            todo.append(folder)
            if overwrite:
                store.clear_run(folder)
    if done:
        log.info("%d of %d points are done already", len(done), len(unique))
    for folder in elsewhere:
        log.info("%s is being trained by another process; left to it", folder.name)
    return todo


def _group(todo: Sequence[Path], todo_points: Sequence[Point], device: Any) -> list[list[Path]]:
    """The runs to train in packs."""
    shapes = [building.load_dataset(point.data).image_shape for point in todo_points]
    costs = [building.cost(point, shape) for point, shape in zip(todo_points, shapes, strict=True)]
    limits = [point.max_pack or building.pack_limit(point, s) for point, s in zip(todo_points, shapes, strict=True)]
    packs = points.group(todo_points, costs, limits)
    return [[todo[i] for i in pack] for pack in packs]
