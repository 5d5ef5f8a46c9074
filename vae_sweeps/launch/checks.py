"""Checks of what a launch trains and evaluates, before it writes anything."""

import logging
from collections.abc import Iterable, Sequence

from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.config.schema import Point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.reference import checked_features
from vae_sweeps.models.build import has_fixed_latents
from vae_sweeps.models.trial import trial
from vae_sweeps.training import own_objective, own_optimiser

log = logging.getLogger(__name__)


def check_evaluation(datasets: Iterable[Dataset], evaluation: Evaluation) -> None:
    """Raise ValueError if the evaluation is not possible with these datasets, or on this machine."""
    for dataset in {id(dataset): dataset for dataset in datasets}.values():
        checked_features(dataset, evaluation)


def check_own_parts(points: Sequence[Point], shapes: Sequence[tuple[int, int, int]], devices: int) -> None:
    """Try a step of the user's own parts. Raises ValueError if they cannot be trained like this.

    Says in the log which of them cannot share a pack.
    """
    reasons = set()
    for point, image_shape in zip(points, shapes, strict=True):
        if point.towers > 1 and has_fixed_latents(point.arch):
            raise ValueError(f"towers={point.towers}: must be 1 with a network of your own, which is not split")
        own_optimiser.check(point.optim)
        own_objective.check(point.objective)
        found = trial(point, image_shape)
        if devices > 1 and (found.mixes_images or found.is_random):
            what = "draws random numbers" if found.is_random else "computes with the whole batch, as batch norm does"
            raise ValueError(
                f"devices={devices}: must be 1 with this network of your own, which {what} in training: "
                "the devices would compute other numbers than one"
            )
        reasons.add(found.why_alone)
    for reason in sorted(reasons - {""}):
        log.info("points with these parts of your own train one by one, not in packs: %s", reason)
