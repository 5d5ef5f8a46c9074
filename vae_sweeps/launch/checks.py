"""Checks that run before a launch writes anything."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.reference import checked_features


def check_evaluation(datasets: Iterable[Dataset], evaluation: Evaluation) -> None:
    """Raise ValueError if the evaluation is not possible with these datasets, or on this machine."""
    for dataset in {id(dataset): dataset for dataset in datasets}.values():
        checked_features(dataset, evaluation)


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
