"""The runs of a launch: name them, and find those that are left to do. Does not import torch."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from vae_sweeps.config import source
from vae_sweeps.config.identity import run_id, run_name
from vae_sweeps.config.launch_options import LaunchOptions
from vae_sweeps.config.schema import Point
from vae_sweeps.config.trust import targets_with_source
from vae_sweeps.evaluation.settings import parts_left
from vae_sweeps.launch.request import Launch
from vae_sweeps.runs import claims
from vae_sweeps.runs.known_results import KnownResults
from vae_sweeps.runs.run_folder import STOPPED, RunFolder
from vae_sweeps.system.logs import count

log = logging.getLogger(__name__)

Sources = Sequence[Mapping[str, bytes]]


@dataclass(frozen=True)
class Runs:
    """The runs of a launch. `folders` has one entry per point of the launch, in order; equal points share a folder.

    `sources` has the source files of each run's own parts.
    """

    folders: list[RunFolder]
    unique: dict[RunFolder, tuple[Point, Sequence[str]]]
    data_fingerprints: dict[RunFolder, str]
    sources: dict[RunFolder, Mapping[str, bytes]]


def sources_of(points: Sequence[Point]) -> Sources:
    """The source files of each point's own parts. Imports nothing. Raises ValueError if a module does not exist."""
    files_of = cache(source.files_of)
    return [files_of(targets_with_source(point)) for point in points]


def named_runs(launch: Launch, fingerprints: Sequence[str], sources: Sources) -> Runs:
    """The runs of the launch's points, given the fingerprint of each point's data and the source of its own parts."""
    folders = [
        RunFolder.under(launch.options.output_dir, run_name(point, run_id(point, fingerprint, source.digest_of(files))))
        for point, fingerprint, files in zip(launch.points, fingerprints, sources, strict=True)
    ]
    return Runs(
        folders,
        {run: (point, job) for run, point, job in zip(folders, launch.points, launch.overrides, strict=True)},
        dict(zip(folders, fingerprints, strict=True)),
        dict(zip(folders, sources, strict=True)),
    )


@dataclass(frozen=True)
class Left:
    """The runs to train and those to evaluate only, and why others are left out."""

    to_train: list[RunFolder]
    to_evaluate: list[RunFolder]
    held: list[RunFolder]
    num_queued: int
    num_done: int
    num_runs: int

    @property
    def has_work(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.to_train or self.to_evaluate)

    def log(self) -> None:
        """Say which runs are left out, and why."""
        for run in self.held:
            log.info("%s is being trained by another process; skipping it", run.name)
        if self.num_queued:
            log.info("%d of %s already in the queue", self.num_queued, count(self.num_runs, "point"))
        if self.num_done:
            log.info("%d of %s already done", self.num_done, count(self.num_runs, "point"))


def runs_left(
    runs: Runs, options: LaunchOptions, queued: Collection[str], results: KnownResults, *, is_halved: bool = False
) -> Left:
    """What is left to do of the runs; `queued` are the names of those that wait or run in jobs of a cluster.

    A part of the evaluation that a result has with other settings is not left. With `is_halved`, runs that halving has
    stopped have ended.
    """
    ended = {"done", "diverged", *([STOPPED] if is_halved else [])}
    to_train, to_evaluate, held, num_queued, num_done = list[RunFolder](), list[RunFolder](), list[RunFolder](), 0, 0
    for run in runs.unique:
        if run.name in queued:
            num_queued += 1
        elif (result := results.of(run)) is not None and result["status"] in ended and not options.overwrite:
            num_done += 1
            if result["status"] == "done" and parts_left(result, options.evaluation) and not claims.is_held(run):
                to_evaluate.append(run)
        elif claims.is_held(run):
            held.append(run)
        else:
            to_train.append(run)
    return Left(to_train, to_evaluate, held, num_queued, num_done, len(runs.unique))


def log_data(descriptions: Collection[str], launch: Launch) -> None:
    """Say which data the launch reads."""
    if not launch.is_batch:
        for description in dict.fromkeys(descriptions):
            log.info("data %s", description)
