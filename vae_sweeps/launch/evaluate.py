"""`vae-sweeps evaluate` and `prefetch`: evaluate without training, and fetch data for jobs without network access."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vae_sweeps.analysis import table
from vae_sweeps.config import trust
from vae_sweeps.config.compose import compose_command
from vae_sweeps.config.launchers import LocalLauncher
from vae_sweeps.config.schema import Point
from vae_sweeps.data.load import load_dataset
from vae_sweeps.evaluation.features.base import build_features
from vae_sweeps.evaluation.features.extractors import download_inception
from vae_sweeps.evaluation.settings import parts_left
from vae_sweeps.launch import summary
from vae_sweeps.launch.evaluating import evaluate_here
from vae_sweeps.launch.request import Launch
from vae_sweeps.launch.worker import JobContext, References
from vae_sweeps.runs.finding import readable_points
from vae_sweeps.runs.known_results import KnownResults
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import find_sweep
from vae_sweeps.system import machine
from vae_sweeps.system.logs import start_logging
from vae_sweeps.tracker import requirements
from vae_sweeps.tracker.link import linked

log = logging.getLogger(__name__)

_ALLOWED = ("evaluation", "device", "tracker")


def evaluate_sweep(
    where: str, overrides: Sequence[str], output_dir: Path, *, workers: int | None = None, is_trusted: bool = False
) -> bool:
    """Evaluate the finished runs of `where` as `overrides` say, except for parts that they already have.

    It is done in `workers` processes side by side; None: in as many as are expected to end first. If `is_trusted`,
    whatever the runs' configs name is called; see `config.trust`. Returns whether all runs now have all parts. Raises
    ValueError for a mistake, before anything is evaluated.
    """
    keys = [override.lstrip("+~").partition("=")[0].replace("/", ".").split(".") for override in overrides]
    for override, key in zip(overrides, keys, strict=True):
        if key[0] not in _ALLOWED:
            allowed = "a key of evaluation or tracker, or device"
            raise ValueError(f"{override}: must be {allowed}; other keys of a finished run are fixed")
    _, options = compose_command(overrides)
    device = machine.resolve_device(options.device)
    requirements.check(options.tracker.mode)
    runs, swept = table.find_runs(where, output_dir)
    results = KnownResults()
    done = [run for run in runs if (result := results.of(run)) is not None and result["status"] == "done"]
    if not done:
        raise ValueError(f"{where}: has no finished runs to evaluate; launch it first")
    points = readable_points(done)
    named = trust.targets_of_points(points.values()) if is_trusted else frozenset()
    explicit = {key[1] for key in keys if len(key) > 1}

    def left() -> list[RunFolder]:
        return [run for run in points if parts_left(results.of(run) or {}, options.evaluation, explicit)]

    allowed = trust.targets_of_options(options) | named
    with trust.allowing(allowed):
        trust.check_points(points.values())
        start_logging()
        machine.prepare()
        sweep, to_evaluate = find_sweep(where, output_dir), left()
        log.info(
            "%d of %d points finished, %d of them to evaluate on %s", len(done), len(runs), len(to_evaluate), device
        )
        launcher = LocalLauncher(workers=workers or "auto")
        launch = Launch([], [], options, launcher, sweep, allowed=allowed)
        _evaluate({run: points[run] for run in to_evaluate}, launch, explicit, device)
        results.forget(to_evaluate)
        summary.show(runs, swept, sweep, results)
    return len(points) == len(done) and not left()


def _evaluate(
    points: Mapping[RunFolder, Point], launch: Launch, explicit: Collection[str], device: torch.device
) -> None:
    options = launch.options
    with machine.stop_signals() as should_stop, linked(options.tracker, launch.sweep, keeps_place=True) as link:
        references = References(options, device)
        context = JobContext(device, options, should_stop, references, link, explicit=explicit)
        for point in points.values():  # load and check the data of all runs before evaluating any
            references.of(point)
        if points:
            evaluate_here(points, launch, context)


def fetch_ahead(overrides: Sequence[str]) -> None:
    """Download or compute the data and features that `overrides` choose, for jobs without network access."""
    start_logging()
    point, options = compose_command(overrides)
    with trust.allowing(trust.targets_of_points([point]) | trust.targets_of_options(options)):
        _fetch(point, options.evaluation.features)


def _fetch(point: Point, chosen: Mapping[str, Any]) -> None:
    if str(chosen["_target_"]).endswith(".inception"):
        log.info("weights: %s", download_inception(chosen["weights"]))
    dataset = load_dataset(point.data)
    log.info("%s: %s", dataset.name, ", ".join(f"{len(x)} {split}" for split, x in dataset.images.items()))
    features = build_features(chosen, dataset)
    extractor = features.load()
    accuracy = f", test accuracy {100 * extractor.accuracy:.2f} %" if extractor.accuracy is not None else ""
    log.info("features %s: %d wide, weights %s%s", features.name, features.width, extractor.weights_hash, accuracy)
