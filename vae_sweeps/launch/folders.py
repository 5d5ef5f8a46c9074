"""Checks of the folders in which a launch writes, before it does."""

import os
import tempfile
from pathlib import Path

from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files, git, private


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
