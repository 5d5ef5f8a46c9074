"""The CPUs that this process may use. Does not import torch."""

import contextlib
import math
import os
from pathlib import Path

from vae_sweeps.system import cgroups


def usable() -> int:
    """The number of threads that this process can keep busy, at least 1.

    This is the least of the CPUs that it is bound to, those of its SLURM task, and the CPU time that its cgroups allow.
    """
    bounds = [_bound_to(), _of_slurm_task(), *map(_quota, cgroups.folders("cpu"))]
    return max(1, math.ceil(min(bounds)))


def _bound_to() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _of_slurm_task() -> float:
    text = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(text) if text.isdigit() else math.inf


def _quota(cgroup: Path) -> float:
    """Seconds of CPU time per second that the cgroup allows; infinite without a limit."""
    with contextlib.suppress(OSError, ValueError):  # version 2; "max" means no limit
        quota, period = (cgroup / "cpu.max").read_text().split()
        return int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):  # version 1; -1 means no limit
        quota = int((cgroup / "cpu.cfs_quota_us").read_text())
        return quota / int((cgroup / "cpu.cfs_period_us").read_text()) if quota > 0 else math.inf
    return math.inf
