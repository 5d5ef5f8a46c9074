"""`vae-sweeps evaluate` and `prefetch`: evaluate without training, and fetch data for jobs without network access."""

import logging
from collections.abc import Sequence
from pathlib import Path

from vae_sweeps.analysis import table
from vae_sweeps.config.compose import compose_command
from vae_sweeps.data.load import load_dataset
from vae_sweeps.evaluation.features.base import build_features
from vae_sweeps.evaluation.features.extractors import download_inception
from vae_sweeps.evaluation.settings import parts_left
from vae_sweeps.launch import summary
from vae_sweeps.launch.worker import JobContext, References, evaluate_runs
from vae_sweeps.runs.known_results import KnownResults
from vae_sweeps.runs.sweep_folder import find_sweep
from vae_sweeps.system import machine
from vae_sweeps.system.logs import start_logging
from vae_sweeps.tracker import account
from vae_sweeps.tracker.link import linked

log = logging.getLogger(__name__)

_ALLOWED = ("evaluation", "device", "tracker")


def evaluate_sweep(where: str, overrides: Sequence[str], output_dir: Path) -> bool:
    """Evaluate the finished runs of `where` as `overrides` say, except for parts that they already have.

    Returns whether all runs now have all parts. Raises ValueError for a mistake, before anything is evaluated.
    """
    keys = [override.lstrip("+~").partition("=")[0].replace("/", ".").split(".") for override in overrides]
    for override, key in zip(overrides, keys, strict=True):
        if key[0] not in _ALLOWED:
            allowed = "a key of evaluation or tracker, or device"
            raise ValueError(f"{override}: must be {allowed}; other keys of a finished run are fixed")
    runs, swept = table.find_runs(where, output_dir)
    _, options = compose_command(overrides)
    evaluation, device = options.evaluation, machine.resolve_device(options.device)
    account.check(options.tracker.mode)
    results = KnownResults()
    done = [run for run in runs if (result := results.of(run)) is not None and result["status"] == "done"]
    if not done:
        raise ValueError(f"{where}: has no finished runs to evaluate; launch it first")

    start_logging()
    machine.prepare()
    explicit = {key[1] for key in keys if len(key) > 1}
    left = [run for run in done if parts_left(results.of(run) or {}, evaluation, explicit)]
    log.info("%d of %d points finished, %d of them to evaluate on %s", len(done), len(runs), len(left), device)
    sweep = find_sweep(where, output_dir)
    with machine.stop_signals() as should_stop, linked(options.tracker, sweep, keeps_place=True) as link:
        references = References(options, device)
        context = JobContext(device, options, should_stop, references, link, explicit=explicit)
        for run in left:  # load and check the data of all runs before evaluating any
            references.of(run.read_point())
        evaluate_runs(left, context)
    results.forget(left)
    summary.show(runs, swept, sweep, results)
    return not any(parts_left(results.of(run) or {}, evaluation, explicit) for run in done)


def fetch_ahead(overrides: Sequence[str]) -> None:
    """Download or compute the data and features that `overrides` choose, for jobs without network access."""
    start_logging()
    point, options = compose_command(overrides)
    chosen = options.evaluation.features
    if str(chosen["_target_"]).endswith(".inception"):
        log.info("weights: %s", download_inception(chosen["weights"]))
    dataset = load_dataset(point.data)
    log.info("%s: %s", dataset.name, ", ".join(f"{len(x)} {split}" for split, x in dataset.images.items()))
    features = build_features(chosen, dataset)
    extractor = features.load()
    accuracy = f", test accuracy {100 * extractor.accuracy:.2f} %" if extractor.accuracy is not None else ""
    log.info("features %s: %d wide, weights %s%s", features.name, features.width, extractor.weights_hash, accuracy)
