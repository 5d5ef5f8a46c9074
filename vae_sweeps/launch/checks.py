"""Checks that run before a launch writes anything."""

import logging
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.config.schema import Point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.reference import checked_features
from vae_sweeps.models.build import has_fixed_latents
from vae_sweeps.models.trial import trial
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files, git, private
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


def check_jobs(folder: RunFolder | SweepFolder, *, has_snapshot: bool = False) -> None:
    """Raise ValueError if jobs cannot keep their files in `folder`, or others could write what they run."""
    path = folder.path.resolve()
    if "%" in str(path) or not str(path).isprintable():
        raise ValueError(f"output_dir: {str(path)!r} must not contain % or control characters, as jobs write there")
    if has_snapshot and os.pathsep in str(path):
        raise ValueError(
            f"hydra.launcher.snapshot=true: must be false where the sweep's folder contains {os.pathsep}, which "
            f"separates the folders of PYTHONPATH: {path}; or choose another output_dir or sweep"
        )
    if has_snapshot and git.commit() is None:
        raise ValueError(f"hydra.launcher.snapshot=true: must be false here, as {files.ROOT} is not a git checkout")
    private.check(folder.jobs)


def check_output_dir(output_dir: str) -> None:
    """Raise ValueError unless runs can be created under `output_dir`. Creates nothing."""
    path = Path(output_dir).absolute()
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = "not a folder" if not existing.is_dir() else error.strerror
        raise ValueError(
            f"output_dir={output_dir}: cannot be written ({existing}: {reason}); choose a writable folder"
        ) from error
