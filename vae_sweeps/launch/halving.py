"""Halving: check that the points of a launch can be halved, and train them stage by stage."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from vae_sweeps.config.schema import Point
from vae_sweeps.config.sweepers import HalvingSettings
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.runs import catalogue, claims
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.rungs import Halving, Stage, brackets_of
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import lease
from vae_sweeps.training.schedule import Schedule

log = logging.getLogger(__name__)

# How often a process looks whether others have trained the points that it needs for a decision, in seconds.
_POLL_S = 2.0


def make_halving(
    settings: HalvingSettings, points: Sequence[Point], datasets: Sequence[Dataset], folders: Sequence[RunFolder]
) -> Halving:
    """How the points are halved. Raises ValueError for a mistake in the settings, or points of different lengths."""
    assert settings.min_epochs is not None
    if settings.metric not in (allowed := _metrics()):
        raise ValueError(f"hydra.sweeper.halving.metric={settings.metric}: must be one of {', '.join(allowed)}")
    given = f"hydra.sweeper.halving.min_epochs={settings.min_epochs}"
    lengths = set[float]()
    for point, dataset in zip(points, datasets, strict=True):
        schedule = Schedule(point, dataset.num_images("train"))
        lengths.add(schedule.num_steps / schedule.steps_per_epoch)
    if len(lengths) > 1:
        found = ", ".join(f"{length:g}" for length in sorted(lengths))
        raise ValueError(f"{given}: points that are halved must train for equally many epochs; they have {found}")
    (num_epochs,) = lengths
    names = list(dict.fromkeys(folder.name for folder in folders))
    factor, num_brackets = settings.reduction_factor, settings.brackets
    brackets = brackets_of(names, settings.min_epochs, factor, num_epochs, num_brackets)
    if not brackets[-1].epochs:
        which = "" if num_brackets == 1 else f" in the last of {num_brackets} brackets"
        raise ValueError(f"{given}: leaves no rung{which} before the end, after {num_epochs:g} epochs; must be less")
    return Halving(settings.metric, factor, brackets)


def _metrics() -> list[str]:
    """The metrics that every row at the end of an epoch has, and of which one direction is better."""
    found = [metric for metric in catalogue.METRICS if metric.better and metric.name.startswith(("val/", "train/"))]
    return [metric.name for metric in found if metric.group == "elbo" or metric.name.endswith("/loss")]


def stages(halving: Halving, sweep: SweepFolder, should_stop: Callable[[], bool]) -> Iterator[list[Stage]]:
    """What to train next, in each bracket, until every run has ended; each time after what came before was trained.

    Waits for runs that other processes train. Ends, and says so, if runs neither move nor are trained by others.
    """
    before: list[Stage] | None = None
    while not should_stop():
        with lease.wait_for(sweep.path, sweep.CHOOSING):
            found = halving.next_stages(sweep)
        if not found:
            return
        if found == before:
            if not any(claims.is_held(run) for stage in found for run in stage.runs):
                log.error("%s: some points cannot be trained, so the others cannot be compared with them", sweep.name)
                return
            time.sleep(_POLL_S)
        before = found
        yield found
