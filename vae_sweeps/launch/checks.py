"""Checks that a launch can be carried out, made before anything is written."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.reference import checked_features


def check_evaluation(datasets: Iterable[Dataset], how: Evaluation) -> None:
    """Raise ValueError where the evaluation asks for more than the data, or this machine, can give."""
    for dataset in {id(dataset): dataset for dataset in datasets}.values():
        checked_features(dataset, how)


def check_output_dir(output_dir: str) -> None:
    """Raise ValueError unless runs can be made under `output_dir`; makes nothing."""
    path = Path(output_dir).absolute()
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = "not a folder" if not existing.is_dir() else error.strerror
        raise ValueError(
            f"output_dir={output_dir}: cannot be written ({existing}: {reason}); choose a folder that can be"
        ) from error
