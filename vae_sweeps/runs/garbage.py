"""What an output folder and the cache hold that no sweep names. Behind `vae-sweeps gc`. Does not import torch."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from vae_sweeps.runs import leftovers
from vae_sweeps.runs.cleanup import Removal, is_used, remove_previous, while_claimed
from vae_sweeps.runs.run_folder import RunFolder, runs_folder
from vae_sweeps.runs.sweep_folder import all_sweeps
from vae_sweeps.system import cache, lease

RUNS = "runs of no sweep"
PREVIOUS = "previous checkpoints of finished runs of no sweep"
IMAGES = "decoded images in the cache"
KINDS = (RUNS, PREVIOUS, IMAGES)

_S_PER_DAY = 86_400


def find(output_dir: Path, min_days: float, kinds: tuple[str, ...] = KINDS) -> list[Removal]:
    """What could go: nothing that a sweep names, that a process uses, or that changed in the last `min_days` days.

    Changes nothing. A run whose folder goes takes its previous checkpoint with it. Raises ValueError if the list of a
    sweep's points is damaged, as nobody knows then what it names.
    """
    found: list[Removal] = []
    named = {name for sweep in all_sweeps(output_dir) for name in sweep.named_runs()}
    for path in sorted(runs_folder(output_dir).glob("*")):
        run = RunFolder(path)
        if not path.is_dir() or run.name in named or is_used(run) or _days_since_change(path) < min_days:
            continue
        if RUNS in kinds:
            found.append(Removal(RUNS, [path], partial(while_claimed, run, _delete)))
        elif PREVIOUS in kinds and run.result.exists() and run.previous_checkpoint.exists():
            remove = partial(while_claimed, run, remove_previous)
            found.append(Removal(PREVIOUS, [run.previous_checkpoint], remove))
    if IMAGES in kinds:
        found += _decoded(min_days)
    return found


def _delete(run: RunFolder) -> None:
    leftovers.delete(run.path)


def _decoded(min_days: float) -> Iterator[Removal]:
    for folder in sorted(cache.folder().glob("images-*")):
        is_used = bool(lease.all_of(cache.folder(), f".{folder.name}"))
        if folder.is_dir() and not is_used and _days_since_use(folder) >= min_days:
            yield Removal(IMAGES, [folder], partial(leftovers.delete, folder))


def _days_since_change(folder: Path) -> float:
    return _days(max(path.lstat().st_mtime for path in (folder, *leftovers.inside(folder))))


def _days_since_use(folder: Path) -> float:
    """As the file system knows it: some note no reading, or once a day only."""
    found = [path.lstat() for path in leftovers.inside(folder)]
    return _days(max((time_of for one in found for time_of in (one.st_atime, one.st_mtime)), default=0.0))


def _days(at: float) -> float:
    return (time.time() - at) / _S_PER_DAY
