"""Plan a launch: decide which of its points have to be trained, and in which packs."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from vae_sweeps.config import source
from vae_sweeps.config.identity import run_id, run_name
from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.config.schema import Point
from vae_sweeps.config.sweepers import HalvingSettings
from vae_sweeps.config.trust import targets_with_source
from vae_sweeps.data.load import load_dataset
from vae_sweeps.evaluation.settings import parts_left
from vae_sweeps.launch import checks, fitting
from vae_sweeps.launch.halving import make_halving
from vae_sweeps.launch.packing import checkpoint_bytes, cost, group, keys_apart, limit_of, memory_of
from vae_sweeps.launch.request import Launch
from vae_sweeps.launch.workers import number_of_workers
from vae_sweeps.runs import claims
from vae_sweeps.runs.known_results import KnownResults
from vae_sweeps.runs.run_folder import STOPPED, RunFolder
from vae_sweeps.runs.rungs import Halving
from vae_sweeps.system import machine
from vae_sweeps.system.logs import count

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a launch will do. `folders` has one entry per point of the launch, in order; equal points share a folder.

    `sources` has the source files of each run's own parts. `results` are those of the runs before the launch.
    `checkpoint_bytes` is the size of the largest pack's checkpoints. `packed` makes packs of any of the runs, and
    `halving` says which of them stop early. On this machine, `num_workers` packs train side by side.
    """

    folders: list[RunFolder]
    unique: dict[RunFolder, tuple[Point, Sequence[str]]]
    data_fingerprints: dict[RunFolder, str]
    sources: dict[RunFolder, Mapping[str, bytes]]
    packs: list[list[RunFolder]]
    to_evaluate: list[RunFolder]
    results: KnownResults
    packed: Callable[[Collection[RunFolder]], list[list[RunFolder]]]
    checkpoint_bytes: int = 0
    halving: Halving | None = None
    num_workers: int = 1


def make_plan(launch: Launch, queued: Collection[str] = ()) -> Plan:
    """Check the launch, and decide which points to train and in which packs. Writes nothing.

    `queued` are the names of runs that already wait or run in jobs of a cluster. Raises ValueError for a mistake.
    """
    points, options, cluster = launch.points, launch.options, launch.cluster
    device = torch.device("cpu") if cluster else machine.resolve_device(options.device)
    if cluster is None:
        machine.check_devices(device, options.devices, {point.precision for point in points})
    sources = _sources_of(points)
    datasets = [load_dataset(point.data) for point in points]
    shapes = [dataset.image_shape for dataset in datasets]
    for dataset in {id(dataset): dataset for dataset in datasets if not launch.is_batch}.values():
        log.info("data %s", dataset.describe())
    costs = [cost(point, shape) for point, shape in zip(points, shapes, strict=True)]
    checks.check_evaluation(datasets, options.evaluation)
    checks.check_output_dir(options.output_dir)
    folders = [
        RunFolder.under(
            options.output_dir, run_name(point, run_id(point, dataset.fingerprint, source.digest_of(files)))
        )
        for point, dataset, files in zip(points, datasets, sources, strict=True)
    ]
    unique = {folder: (point, job) for folder, point, job in zip(folders, points, launch.overrides, strict=True)}
    results = KnownResults()
    halving = launch.halving
    if isinstance(halving, HalvingSettings):
        halving = make_halving(halving, points, datasets, folders)
    ended = () if halving is None else (STOPPED,)
    missing = _missing(unique, queued, results, overwrite=options.overwrite, ended=("done", "diverged", *ended))
    index = {folder: i for i, folder in enumerate(folders)}
    todo = [index[folder] for folder in missing]
    fitting.check([points[i] for i in todo], [datasets[i] for i in todo], device, options.devices, cluster)
    memory_bytes = memory_of(cluster) if cluster else machine.memory_for_packs(device)
    checks.check_own_parts([points[i] for i in todo], [shapes[i] for i in todo], options.devices)
    num_workers = 1
    if cluster is None:
        num_processes = number_of_workers(launch, [points[i] for i in todo], [datasets[i] for i in todo], device)
        num_workers = max(1, num_processes // options.devices)
    if cluster or num_workers > 1 or options.devices > 1:
        checks.check_jobs(launch.sweep or folders[0], has_snapshot=cluster is not None and cluster.snapshot)

    def packed(runs: Collection[RunFolder]) -> list[list[RunFolder]]:
        chosen = [index[run] for run in runs]
        limits = [limit_of(points[i], shapes[i], memory_bytes) for i in chosen]
        if launch.largest_pack is not None:
            limits = [min(limit, launch.largest_pack) for limit in limits]
        num_packs = cluster.packs if cluster else num_workers
        if isinstance(num_packs, int) and num_packs > 1:
            limits = [min(limit, -(-len(chosen) // num_packs)) for limit in limits]
        found = group([points[i] for i in chosen], [costs[i] for i in chosen], limits)
        return [[folders[chosen[i]] for i in pack] for pack in found]

    packs = packed(missing)
    if len(packs) > 1 and (keys := keys_apart([points[i] for i in todo])):
        log.info("points that differ in %s do not share a pack", ", ".join(keys))
    skipped = {*missing, *(folder for folder in unique if folder.name in queued)}
    to_evaluate = [f for f in unique if f not in skipped and _needs_evaluation(f, results.of(f), options.evaluation)]
    for folder in [*missing, *to_evaluate]:
        folder.refuse_links()
    fingerprints = {folder: dataset.fingerprint for folder, dataset in zip(folders, datasets, strict=True)}
    sizes = [sum(checkpoint_bytes(points[i], shapes[i]) for i in map(index.__getitem__, pack)) for pack in packs]
    by_folder = dict(zip(folders, sources, strict=True))
    return Plan(
        folders=folders,
        unique=unique,
        data_fingerprints=fingerprints,
        sources=by_folder,
        packs=packs,
        to_evaluate=to_evaluate,
        results=results,
        packed=packed,
        checkpoint_bytes=max(sizes, default=0),
        halving=halving,
        num_workers=num_workers,
    )


def _sources_of(points: Sequence[Point]) -> list[Mapping[str, bytes]]:
    """The source files of each point's own parts. Imports nothing. Raises ValueError if a module does not exist."""
    files_of = cache(source.files_of)
    return [files_of(targets_with_source(point)) for point in points]


def _needs_evaluation(run: RunFolder, result: Mapping[str, Any] | None, evaluation: Evaluation) -> bool:
    """Whether a part of `evaluation` is missing; a part with other settings does not count as missing."""
    is_left = result is not None and result["status"] == "done" and bool(parts_left(result, evaluation))
    return is_left and not claims.is_held(run)


def _missing(
    unique: Mapping[RunFolder, object],
    queued: Collection[str],
    results: KnownResults,
    *,
    overwrite: bool,
    ended: Collection[str],
) -> list[RunFolder]:
    """The runs to train: those without a result whose status is in `ended`. Logs which are skipped and why."""
    missing, num_done, num_queued = [], 0, 0
    for run in unique:
        if run.name in queued:
            num_queued += 1
        elif (result := results.of(run)) is not None and result["status"] in ended and not overwrite:
            num_done += 1
        elif claims.is_held(run):
            log.info("%s is being trained by another process; skipping it", run.name)
        else:
            missing.append(run)
    if num_queued:
        log.info("%d of %s already in the queue", num_queued, count(len(unique), "point"))
    if num_done:
        log.info("%d of %s already done", num_done, count(len(unique), "point"))
    return missing
