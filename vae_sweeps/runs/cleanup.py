"""What a sweep no longer needs, and its removal. Behind `vae-sweeps clean`. Does not import torch.

Nothing is removed that a process or a job may still need: of a run that is claimed or whose job is in the queue, of a
job whose points have not ended, or younger than a lease.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vae_sweeps.runs import claims, job_files, leftovers, pictures
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import git, lease, slurm
from vae_sweeps.system.lease_owner import duration_s

log = logging.getLogger(__name__)

# The kinds of what is removed, in the order in which they are shown.
PREVIOUS = "previous checkpoints of finished runs"
PICTURES = "pictures of finished runs, now packed in one archive each"
JOBS = "files of ended jobs"
CODE = "copies of the code that no job uses"
LEFT = "unfinished files and claims of killed processes"


@dataclass(frozen=True)
class Size:
    """A number of files and folders, and their bytes."""

    inodes: int = 0
    num_bytes: int = 0

    def __add__(self, other: "Size") -> "Size":
        return Size(self.inodes + other.inodes, self.num_bytes + other.num_bytes)

    def __sub__(self, other: "Size") -> "Size":
        return Size(self.inodes - other.inodes, self.num_bytes - other.num_bytes)


def size_of(paths: Iterable[Path]) -> Size:
    """The size of files, and of folders with all that is in them; 0 for paths that do not exist."""
    size = Size()
    for path in paths:
        size += _size_of_one(path)
        for folder, folders, files in os.walk(path):
            size = sum((_size_of_one(Path(folder, name)) for name in [*folders, *files]), size)
    return size


def _size_of_one(path: Path) -> Size:
    try:
        return Size(1, 0 if path.is_dir() and not path.is_symlink() else path.lstat().st_size)
    except FileNotFoundError:
        return Size()


@dataclass(frozen=True)
class Removal:
    """Something that is not needed: its kind, the paths that change, and `remove`, after which `left` is there."""

    kind: str
    paths: Sequence[Path]
    remove: Callable[[], object]
    left: Size = Size()

    def would_free(self) -> Size:
        """What would be gone."""
        return size_of(self.paths) - self.left

    def free(self) -> Size:
        """Remove it, and return what is gone; a file that this user may not remove is reported in the log."""
        before = size_of(self.paths)
        try:
            self.remove()
        except (OSError, lease.LostLeaseError) as error:
            log.warning("%s: not removed (%s)", self.paths[0], error)
        return before - size_of(self.paths)


@dataclass(frozen=True)
class Found:
    """What a sweep does not need; and the runs that are left alone, as a process or a job may work on them."""

    removals: list[Removal]
    busy: list[RunFolder]


def find(sweep: SweepFolder) -> Found:
    """Find what the sweep does not need. Changes nothing. Raises ValueError if squeue does not answer."""
    runs, tasks, files = sweep.runs(), sweep.submitted().runs_of, job_files.files_in(sweep.jobs)
    unrecorded = {task for path in files if (task := job_files.task_of(path))} - tasks.keys()
    # Where there is no SLURM, unrecorded files are those of processes on this machine.
    queue = set(slurm.in_queue(tasks.keys() | (unrecorded if shutil.which("squeue") else set())))
    waited_for = {name for task in queue for name in tasks.get(task, ())}
    busy = [run for run in runs if run.name in waited_for or is_used(run)]
    names = {run.name for run in busy}
    removals = [removal for run in runs if run.name not in names for removal in _of_run(run)]
    removals += _deletions(JOBS, job_files.of_ended(files, _ended(sweep, tasks, queue, names)))
    if not queue and not busy:
        if all(run.has_ended() for run in runs):
            removals += _deletions(JOBS, _old(job_files.of_unrecorded(files, tasks), sweep.path))
        copies = sorted(sweep.code.iterdir()) if sweep.code.is_dir() else []
        removals += _deletions(CODE, _old([path for path in copies if git.is_snapshot(path)], sweep.path))
    left = [*leftovers.unfinished(sweep.path), *sorted(sweep.running.glob("*.json"))]
    removals += _deletions(LEFT, _old(left, sweep.path))
    for path in leftovers.stale_claims(sweep.path, (sweep.CHOOSING, sweep.SUBMITTING, sweep.REST, sweep.SEARCHING)):
        removals.append(Removal(LEFT, [path], lambda path=path: lease.remove(path)))
    return Found(sorted(removals, key=lambda removal: (PREVIOUS, PICTURES, JOBS, CODE, LEFT).index(removal.kind)), busy)


def is_used(run: RunFolder) -> bool:
    """Whether a process trains, evaluates or uploads the run."""
    return claims.is_held(run) or lease.is_held(run.path, ".wandb")


def _ended(sweep: SweepFolder, tasks: Mapping[str, Sequence[str]], queue: set[str], busy: set[str]) -> dict[str, bool]:
    """For each task, whether it has left the queue, all its points have ended, and no process works on them."""
    names = {name for of_task in tasks.values() for name in of_task}
    ended = {name for name in names if sweep.run(name).has_ended()} - busy
    return {task: task not in queue and ended.issuperset(of_task) for task, of_task in tasks.items()}


def _of_run(run: RunFolder) -> Iterator[Removal]:
    """What a run that nobody works on does not need."""
    stale = leftovers.stale_claims(run.path, (".claim", ".wandb"))
    for path in stale:
        yield Removal(LEFT, [path], lambda path=path: lease.remove(path))
    yield from _deletions(LEFT, _old(leftovers.unfinished(run.path, stale), run.path))
    if not run.result.exists():
        return
    if run.previous_checkpoint.exists():
        yield Removal(PREVIOUS, [run.previous_checkpoint], lambda: while_claimed(run, remove_previous))
    if pictures.files_in(run.pictures):
        both = [run.pictures, run.packed_pictures]
        left = Size(1, pictures.packed_size(run.pictures, run.packed_pictures))
        yield Removal(PICTURES, both, lambda: while_claimed(run, RunFolder.pack_pictures), left)
    of_jobs = sorted(run.jobs.iterdir()) if run.jobs.is_dir() else []
    if of_jobs and of_jobs == _old(job_files.files_in(run.jobs), run.path):
        yield from _deletions(JOBS, [run.jobs])


def remove_previous(run: RunFolder) -> None:
    run.remove(run.previous_checkpoint)


def while_claimed(run: RunFolder, action: Callable[[RunFolder], None]) -> None:
    """Do something with the run while no process works on it; nothing if one has begun to."""
    with claims.taken([run]) as claimed:
        for ours in claimed:
            action(ours)


def _deletions(kind: str, paths: Iterable[Path]) -> Iterator[Removal]:
    for path in paths:
        yield Removal(kind, [path], lambda path=path: leftovers.delete(path))


def _old(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Those that have not changed for as long as a lease lasts, so that no process is about to claim or move them."""
    now = lease.clock_of(folder) if paths else 0.0
    return [path for path in paths if now - path.lstat().st_mtime > duration_s()]
