"""`vae-sweeps evaluate` and `prefetch`: evaluation without training, and what it needs where there is no network."""

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
from vae_sweeps.runs.sweep_folder import find_sweep
from vae_sweeps.system import machine
from vae_sweeps.system.logs import start_logging
from vae_sweeps.tracker import account
from vae_sweeps.tracker.link import linked

log = logging.getLogger(__name__)

_ALLOWED = ("evaluation", "device", "tracker")


def evaluate_sweep(where: str, overrides: Sequence[str], output_dir: Path) -> bool:
    """Evaluate the finished runs of `where` as `overrides` say; parts that they have by these settings are left alone.

    Returns whether everything asked for is there now. Raises ValueError for a mistake, before anything is done.
    """
    keys = [override.lstrip("+~").partition("=")[0].replace("/", ".").split(".") for override in overrides]
    for override, key in zip(overrides, keys, strict=True):
        if key[0] not in _ALLOWED:
            allowed = "a key of evaluation or tracker, or device"
            raise ValueError(f"{override}: must be {allowed}; the rest of a finished run is fixed")
    runs, swept = table.find_runs(where, output_dir)
    _, options = compose_command(overrides)
    how, device = options.evaluation, machine.resolve_device(options.device)
    account.check(options.tracker.mode)
    results = {run: run.read_result() for run in runs}
    done = [run for run, result in results.items() if result is not None and result["status"] == "done"]
    if not done:
        raise ValueError(f"{where}: has no finished runs to evaluate; launch it first")

    start_logging()
    machine.prepare()
    explicit = {key[1] for key in keys if len(key) > 1}
    left = [run for run in done if parts_left(results[run] or {}, how, explicit)]
    log.info("%d of %d points finished, %d of them to evaluate on %s", len(done), len(runs), len(left), device)
    sweep = find_sweep(where, output_dir)
    with machine.stop_signals() as should_stop, linked(options.tracker, sweep, keeps_place=True) as link:
        references = References(options, device)
        context = JobContext(device, options, should_stop, references, link, explicit=explicit)
        for run in left:  # the data's side is checked for all before any is evaluated
            references.of(run.read_point())
        evaluate_runs(left, context)
    summary.tell(runs, swept, sweep)
    return not any(parts_left(run.read_result() or {}, how, explicit) for run in done)


def fetch_ahead(overrides: Sequence[str]) -> None:
    """Fetch or make, ahead of jobs without a network, the data and the features of the point that `overrides` give."""
    start_logging()
    point, options = compose_command(overrides)
    chosen = options.evaluation.features
    if str(chosen["_target_"]).endswith(".inception"):
        log.info("weights: %s", download_inception(chosen["weights"]))
    dataset = load_dataset(point.data)
    log.info("%s: %s", dataset.name, ", ".join(f"{len(x)} {split}" for split, x in dataset.images.items()))
    features = build_features(chosen, dataset)
    extractor = features.load()
    accuracy = f", right on {100 * extractor.accuracy:.2f} % of test" if extractor.accuracy is not None else ""
    log.info("features %s: %d wide, weights %s%s", features.name, features.width, extractor.weights_hash, accuracy)
