"""What a command comes to: which of its points are missing, in which packs they train, and where."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vae_sweeps.config.identity import run_id, run_name
from vae_sweeps.config.schema import Evaluation, LocalLauncher, Point, SlurmLauncher
from vae_sweeps.data.load import load_dataset
from vae_sweeps.evaluation.reference import new_reference
from vae_sweeps.evaluation.settings import parts_left
from vae_sweeps.launch.checks import check_output_dir
from vae_sweeps.launch.packing import cost, group, memory_of, pack_limit
from vae_sweeps.runs import claims, run_folder
from vae_sweeps.system import machine
from vae_sweeps.system.logs import count

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a command comes to: `folders` has one entry for each of its points, in order; equal points share one."""

    folders: list[Path]
    unique: dict[Path, tuple[Point, Sequence[str]]]
    packs: list[list[Path]]
    to_evaluate: list[Path]


def make_plan(
    sweep_points: Sequence[Point],
    overrides: Sequence[Sequence[str]],
    launcher: LocalLauncher | SlurmLauncher | None = None,
    queued: Collection[str] = (),
) -> Plan:
    """Check everything that can be wrong, and decide what is to be trained in which packs. Writes nothing.

    `queued` names runs that wait or run in a cluster's jobs already. Raises ValueError.
    """
    first = sweep_points[0]
    cluster = launcher if isinstance(launcher, SlurmLauncher) else None
    device = torch.device("cpu") if cluster else machine.resolve_device(first.device)
    if cluster is None:
        machine.check_devices(device, first.devices, {point.precision for point in sweep_points})
    datasets = [load_dataset(point.data) for point in sweep_points]
    shapes = [dataset.image_shape for dataset in datasets]
    costs = [cost(point, shape) for point, shape in zip(sweep_points, shapes, strict=True)]
    for data in {id(dataset): point for dataset, point in zip(datasets, sweep_points, strict=True)}.values():
        new_reference(data, first.evaluation, device)
    check_output_dir(first.output_dir)
    runs = run_folder.runs_folder(first.output_dir)
    folders = [
        runs / run_name(point, run_id(point, dataset.fingerprint))
        for point, dataset in zip(sweep_points, datasets, strict=True)
    ]
    unique = {folder: (point, job) for folder, point, job in zip(folders, sweep_points, overrides, strict=True)}
    missing = _missing(unique, queued, overwrite=first.overwrite)
    place = {folder: i for i, folder in enumerate(folders)}
    todo = [place[folder] for folder in missing]
    memory_bytes = memory_of(cluster) if cluster else machine.memory_for_packs(device)
    limits = [sweep_points[i].max_pack or pack_limit(sweep_points[i], shapes[i], memory_bytes) for i in todo]
    num_packs = cluster.packs if cluster else num_workers(launcher, first.device)
    if isinstance(num_packs, int) and num_packs > 1:
        limits = [min(limit, -(-len(todo) // num_packs)) for limit in limits]
    packs = group([sweep_points[i] for i in todo], [costs[i] for i in todo], limits)
    others = set(unique) - set(missing)
    to_evaluate = [f for f in unique if f in others and f.name not in queued and _wants_evaluation(f, first.evaluation)]
    return Plan(folders, unique, [[folders[todo[i]] for i in pack] for pack in packs], to_evaluate)


def num_workers(launcher: LocalLauncher | SlurmLauncher | None, device: str) -> int:
    """How many processes train side by side on this machine: as many as are asked for, else one a GPU."""
    if isinstance(launcher, LocalLauncher) and launcher.workers is not None:
        return launcher.workers
    return max(1, torch.cuda.device_count()) if device in ("auto", "cuda") else 1


def _wants_evaluation(folder: Path, how: Evaluation) -> bool:
    """Whether a part that `how` asks for was never made; parts made by other settings stay as they are."""
    result = run_folder.read_result(folder)
    is_done = result is not None and result["status"] == "done" and not claims.is_held(folder)
    return is_done and bool(parts_left(result or {}, how))


def _missing(unique: Mapping[Path, object], queued: Collection[str], *, overwrite: bool) -> list[Path]:
    """The runs to train; says what is left out and why."""
    missing, num_done, num_queued = [], 0, 0
    for folder in unique:
        if folder.name in queued:
            num_queued += 1
        elif run_folder.read_result(folder) is not None and not overwrite:
            num_done += 1
        elif claims.is_held(folder):
            log.info("%s is being trained by another process; left to it", folder.name)
        else:
            missing.append(folder)
    if num_queued:
        log.info("%d of %s in the queue already", num_queued, count(len(unique), "point"))
    if num_done:
        log.info("%d of %s done already", num_done, count(len(unique), "point"))
    return missing
