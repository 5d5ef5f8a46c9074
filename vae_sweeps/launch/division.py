"""Check what a launch trains, and divide it into packs."""

import logging
from collections.abc import Collection

import torch

from vae_sweeps.config.sweepers import HalvingSettings
from vae_sweeps.data.load import load_dataset
from vae_sweeps.launch import checks, fitting
from vae_sweeps.launch.folders import check_jobs
from vae_sweeps.launch.halving import make_halving
from vae_sweeps.launch.packing import checkpoint_bytes, cost, group, keys_apart, limit_of, memory_of
from vae_sweeps.launch.plan import Plan
from vae_sweeps.launch.request import Launch
from vae_sweeps.launch.runs_of_launch import Runs, Sources, log_data, named_runs, runs_left
from vae_sweeps.launch.workers import number_of_workers
from vae_sweeps.runs.known_results import KnownResults
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import machine

log = logging.getLogger(__name__)


def divided(
    launch: Launch, queued: Collection[str], sources: Sources, results: KnownResults, runs: Runs | None = None
) -> Plan:
    """The plan of a launch, made with its data; see `planning.make_plan`. Raises ValueError for a mistake.

    `runs` are named by what is remembered of the data, which may have changed since.
    """
    points, options, cluster = launch.points, launch.options, launch.cluster
    machine.prepare()  # before the first computation, whose threads keep these settings
    device = torch.device("cpu") if cluster else machine.resolve_device(options.device)
    if cluster is None:
        machine.check_devices(device, options.devices, {point.precision for point in points})
    datasets = [load_dataset(point.data) for point in points]
    shapes = [dataset.image_shape for dataset in datasets]
    log_data([dataset.describe() for dataset in {id(dataset): dataset for dataset in datasets}.values()], launch)
    costs = [cost(point, shape) for point, shape in zip(points, shapes, strict=True)]
    checks.check_evaluation(datasets, options.evaluation)
    fingerprints = [dataset.fingerprint for dataset in datasets]
    if runs is None or [runs.data_fingerprints[folder] for folder in runs.folders] != fingerprints:
        runs = named_runs(launch, fingerprints, sources)
    folders = runs.folders
    halving = launch.halving
    if isinstance(halving, HalvingSettings):
        halving = make_halving(halving, points, datasets, folders)
    left = runs_left(runs, options, queued, results, is_halved=halving is not None)
    left.log()
    index = {folder: i for i, folder in enumerate(folders)}
    todo = [index[folder] for folder in left.to_train]
    fitting.check([points[i] for i in todo], [datasets[i] for i in todo], device, options.devices, cluster)
    memory_bytes = memory_of(cluster) if cluster else machine.memory_for_packs(device)
    checks.check_own_parts([points[i] for i in todo], [shapes[i] for i in todo], options.devices)
    num_workers = 1
    if cluster is None:
        num_processes = number_of_workers(launch, [points[i] for i in todo], [datasets[i] for i in todo], device)
        num_workers = max(1, num_processes // options.devices)
    if cluster or num_workers > 1 or options.devices > 1:
        check_jobs(launch.sweep or folders[0], has_snapshot=cluster is not None and cluster.snapshot)

    def packed(wanted: Collection[RunFolder]) -> list[list[RunFolder]]:
        chosen = [index[run] for run in wanted]
        limits = [limit_of(points[i], shapes[i], memory_bytes) for i in chosen]
        if launch.largest_pack is not None:
            limits = [min(limit, launch.largest_pack) for limit in limits]
        num_packs = cluster.packs if cluster else num_workers
        if isinstance(num_packs, int) and num_packs > 1:
            limits = [min(limit, -(-len(chosen) // num_packs)) for limit in limits]
        found = group([points[i] for i in chosen], [costs[i] for i in chosen], limits)
        return [[folders[chosen[i]] for i in pack] for pack in found]

    packs = packed(left.to_train)
    if len(packs) > 1 and (keys := keys_apart([points[i] for i in todo])):
        log.info("points that differ in %s do not share a pack", ", ".join(keys))
    for folder in [*left.to_train, *left.to_evaluate]:
        folder.refuse_links()
    sizes = [sum(checkpoint_bytes(points[i], shapes[i]) for i in map(index.__getitem__, pack)) for pack in packs]
    return Plan(
        runs,
        results,
        packs,
        left.to_evaluate,
        packed=packed,
        checkpoint_bytes=max(sizes, default=0),
        halving=halving,
        num_workers=num_workers,
    )
