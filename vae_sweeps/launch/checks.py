"""Checks that a command can be carried out, made before anything is written."""

import tempfile
from pathlib import Path


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
