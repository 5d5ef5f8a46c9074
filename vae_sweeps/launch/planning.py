"""Plan a launch: decide which of its points have to be trained, and in which packs.

A launch that has nothing to do is recognised without the data and without torch, which takes seconds.
"""

from collections.abc import Collection

from vae_sweeps.data.remembered import Remembered, recall
from vae_sweeps.launch.folders import check_output_dir
from vae_sweeps.launch.plan import Plan
from vae_sweeps.launch.request import Launch
from vae_sweeps.launch.runs_of_launch import log_data, named_runs, runs_left, sources_of
from vae_sweeps.runs.known_results import KnownResults


def make_plan(launch: Launch, queued: Collection[str] = ()) -> Plan:
    """Check the launch, and decide which points to train and in which packs. Writes nothing.

    `queued` are the names of runs that already wait or run in jobs of a cluster. Raises ValueError for a mistake.
    """
    check_output_dir(launch.options.output_dir)
    sources, results, runs = sources_of(launch.points), KnownResults(), None
    # Rungs of a halving depend on the length of the data.
    if launch.halving is None and (known := _remembered(launch)) is not None:
        runs = named_runs(launch, [data.fingerprint for data in known], sources)
        left = runs_left(runs, launch.options, queued, results)
        if not left.has_work:
            log_data([data.description for data in known], launch)
            left.log()
            return Plan(runs, results, [], [])
    from vae_sweeps.launch import division  # torch

    return division.divided(launch, queued, sources, results, runs)


def _remembered(launch: Launch) -> list[Remembered] | None:
    """What is remembered of each point's data; None unless that is known for all points."""
    keys = [repr(point.data) for point in launch.points]
    by_key = {key: recall(point.data) for key, point in dict(zip(keys, launch.points, strict=True)).items()}
    found = [data for key in keys if (data := by_key[key]) is not None]
    return found if len(found) == len(keys) else None
