"""The files that submitit keeps of each job, by the names that it gives them. Does not import submitit."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from vae_sweeps.system import slurm

_OF_TASK = re.compile(r"(\d+(?:_\d+)?)_(?:submitted\.pkl|\d+_result\.pkl|\d+_log\.(?:out|err))(?:\.save_tmp)?")
_SCRIPT = re.compile(r"(\d+)_submission\.sh")  # of a job, or of a whole array
# Names from before the job had a number; sbatch may have refused it.
_UNNUMBERED = re.compile(r"[0-9a-f]{32}\.pkl|\.submission_file_[0-9a-f]{32}\.sh")


def files_in(folder: Path) -> list[Path]:
    """submitit's files in `folder`, which need not exist."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if any(p.fullmatch(path.name) for p in (_OF_TASK, _SCRIPT, _UNNUMBERED))]


def unnumbered(folder: Path) -> set[Path]:
    """The files in `folder` of jobs that have no number yet, or that sbatch has refused."""
    return {path for path in folder.iterdir() if _UNNUMBERED.fullmatch(path.name)}


def task_of(path: Path) -> str | None:
    """The task that the file belongs to, such as 7 or 7_0; None if it belongs to an array, or has no number yet."""
    found = _OF_TASK.fullmatch(path.name)
    return found[1] if found else None


def of_ended(files: Collection[Path], is_ended: Mapping[str, bool]) -> list[Path]:
    """Those of `files` that belong to ended tasks, or to jobs of which every task has ended."""
    open_jobs = {slurm.job_of(task) for task, ended in is_ended.items() if not ended}
    ended_jobs = {slurm.job_of(task) for task in is_ended} - open_jobs

    def belongs(path: Path) -> bool:
        script = _SCRIPT.fullmatch(path.name)
        return script[1] in ended_jobs if script else is_ended.get(task_of(path) or "", False)

    return [path for path in files if belongs(path)]


def of_unrecorded(files: Collection[Path], tasks: Collection[str]) -> list[Path]:
    """Those of `files` that belong to none of `tasks`: of jobs on this machine, or of submissions that failed."""
    jobs = {slurm.job_of(task) for task in tasks}

    def belongs(path: Path) -> bool:
        script = _SCRIPT.fullmatch(path.name)
        return script[1] not in jobs if script else task_of(path) not in tasks

    return [path for path in files if belongs(path)]
