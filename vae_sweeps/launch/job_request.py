"""What jobs of one kind ask SLURM for."""

from dataclasses import dataclass, replace
from pathlib import Path

from vae_sweeps.config.launchers import SlurmLauncher

# A job inside a container, which has no scontrol, ends with this code to have its script put it into the queue again.
REQUEUE_CODE = 85


@dataclass(frozen=True)
class JobRequest:
    """The settings and the name of jobs, the folder of submitit's files, and the number of processes of each job.

    `code` is a copy of the code that they run, if they do not run the installed one.
    """

    settings: SlurmLauncher
    name: str
    folder: Path
    code: Path | None = None
    tasks: int = 1

    @property
    def asks_for_gpu(self) -> bool:
        return bool(self.settings.gpus_per_node) or "gpu" in (self.settings.gres or "")

    def after(self, job: str) -> "JobRequest":
        """The same for a job that starts when `job` has ended."""
        return replace(self, settings=replace(self.settings, dependency=f"afterany:{job}"))
