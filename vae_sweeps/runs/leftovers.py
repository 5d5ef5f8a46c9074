"""What killed processes leave behind in a folder: claims and unfinished files."""

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from vae_sweeps.system import lease


def inside(folder: Path) -> Iterator[Path]:
    """Everything below the folder that this user may list, except what W&B keeps there."""
    for path in sorted(folder.iterdir()) if os.access(folder, os.R_OK | os.X_OK) else ():
        if path.name == "wandb":  # W&B makes links there
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from inside(path)


def stale_claims(folder: Path, names: Sequence[str]) -> list[Path]:
    """The claims of these names whose processes are gone."""
    return [path for name in names if not lease.is_held(folder, name) for path in lease.all_of(folder, name)]


def unfinished(folder: Path, beside: Collection[Path] = ()) -> list[Path]:
    """Files and folders that were being written, apart from those inside the folders `beside`."""
    found: list[Path] = []
    for path in inside(folder):
        is_unfinished = path.name.startswith(".") and path.suffix == ".tmp"
        if is_unfinished and not any(parent in beside or parent in found for parent in path.parents):
            found.append(path)
    return found


def delete(path: Path) -> None:
    """Delete a file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
