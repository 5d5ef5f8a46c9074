"""What each running job of a sweep uses: a small file per job, which the job renews. Does not import torch."""

import contextlib
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from typing import Literal

from vae_sweeps.runs.costs import is_amount
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files
from vae_sweeps.system.lease_owner import exists
from vae_sweeps.system.memory import in_gb

# How often a job renews its file, and after what time without it the job counts as gone.
EVERY_S = 30.0
_GONE_AFTER_S = 180.0
_MAX_BYTES = 10_000


@dataclass(frozen=True)
class RunningJob:
    """A job that works on a sweep: its id, and what its first process uses.

    The job occupies `count` GPUs or CPU cores (`kind`) of the kind named `device`. `utilisation` is in percent of the
    time: that of a GPU, or of the cores. A number that is not known is None.
    """

    job: str
    host: str
    kind: Literal["gpu", "core"]
    count: int
    device: str
    memory_bytes: float | None = None
    memory_total_bytes: float | None = None
    utilisation: float | None = None

    @classmethod
    def from_json(cls, data: bytes) -> "RunningJob":
        """The job that `write` wrote as JSON. Raises ValueError if it did not write this."""
        try:
            job = cls(**json.loads(data))
        except (TypeError, RecursionError) as error:
            raise ValueError("not a running job") from error
        names = (job.job, job.host, job.device)
        numbers = (job.memory_bytes, job.memory_total_bytes, job.utilisation)
        if not (
            all(isinstance(name, str) and name.isprintable() and len(name) <= 200 for name in names)
            and job.kind in ("gpu", "core")
            and isinstance(job.count, int)
            and 0 < job.count < 1_000_000
            and all(number is None or is_amount(number) for number in numbers)
        ):
            raise ValueError("not a running job")
        return job


def write(sweep: SweepFolder, name: str, job: RunningJob) -> None:
    """Write or renew the file `name` of a job."""
    sweep.running.mkdir(exist_ok=True)
    files.write_whole(sweep.running_job(name), files.to_json(asdict(job)) + "\n")


def remove(sweep: SweepFolder, name: str) -> None:
    """Remove the file of a job that ends, the files of jobs that were killed, and the folder if it is empty."""
    sweep.running_job(name).unlink(missing_ok=True)
    for path in sweep.running.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            if abs(time.time() - path.stat().st_mtime) > _GONE_AFTER_S or _has_ended(path.stem):
                path.unlink()
    with contextlib.suppress(OSError):
        sweep.running.rmdir()


def name_here() -> str:
    """The name of the file of this process, if it is not a job of SLURM."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _has_ended(name: str) -> bool:
    """Whether this is the name of a process of this host that is gone.

    One in another container looks gone too, and writes its file again.
    """
    host, _, pid = name.rpartition("-")
    return host == socket.gethostname() and pid.isdigit() and not exists(int(pid))


def read(sweep: SweepFolder) -> list[RunningJob]:
    """The sweep's running jobs by id: those that have renewed their files in the last three minutes."""
    jobs = []
    for path in sorted(sweep.running.glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            if abs(time.time() - path.stat().st_mtime) <= _GONE_AFTER_S:
                with path.open("rb") as file:
                    jobs.append(RunningJob.from_json(file.read(_MAX_BYTES)))
    return sorted(jobs, key=lambda job: (len(job.job), job.job))


def described(jobs: list[RunningJob]) -> list[str]:
    """One line per job, in columns: its id, host and devices, how busy these are, and the memory that it uses."""
    rows = [(_name(job), job.host, _devices(job), _utilisation(job), _memory(job)) for job in jobs]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _name(job: RunningJob) -> str:
    return f"job {job.job}" if job.job[:1].isdigit() else job.job


def _devices(job: RunningJob) -> str:
    if job.kind == "core":
        return f"{job.count} cores of {job.device}" if job.count > 1 else f"1 core of {job.device}"
    return f"{job.count} x {job.device}" if job.count > 1 else job.device


def _utilisation(job: RunningJob) -> str:
    return "" if job.utilisation is None else f"{job.utilisation:3.0f} % busy"


def _memory(job: RunningJob) -> str:
    if job.memory_bytes is None:
        return ""
    of = f" of {in_gb(job.memory_total_bytes)}" if job.memory_total_bytes is not None else ""
    return f"{in_gb(job.memory_bytes)}{of} memory"
