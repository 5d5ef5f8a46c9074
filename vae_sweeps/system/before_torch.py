"""Settings of the libraries that torch loads: environment variables, which they read once."""

import os
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def prepare() -> None:
    """Set what the user has not set. To be called before torch is imported."""
    # By default OpenMP's threads wait for each other by spinning for a long time. If other processes are busy, this
    # starves the thread they wait for (measured at K = 9 beside two busy processes on two cores: 101 ms per step and
    # point, but 6 ms with this setting). A SLURM job has its cores for itself, and small packs gain from some spinning.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000" if "SLURM_JOB_ID" in os.environ else "3000")
    # Otherwise MKL divides the sums of a product among the threads, so that two threads round differently from one. On
    # processors that are not Intel's it does not, and this setting would choose its slowest code.
    if _is_intel():
        os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def _is_intel() -> bool:
    try:
        with _CPUINFO.open() as lines:
            return any("GenuineIntel" in next(lines, "") for _ in range(10))
    except OSError:
        return False
