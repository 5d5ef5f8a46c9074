"""The memory of this machine, as far as its cgroups let this process use it."""

import contextlib
import functools
import math
import os
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vae_sweeps.system import cgroups

# The files of a memory cgroup: of version 1 and of version 2.
_LIMIT, _USAGE = ("memory.limit_in_bytes", "memory.max"), ("memory.usage_in_bytes", "memory.current")


def memory_bytes() -> int:
    """The machine's memory, or the limit of this process's cgroup if that is less."""
    return min(_physical_bytes(), cgroup_limit() or _physical_bytes())


def _physical_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cgroup_limit() -> int | None:
    """The lowest limit of this process's memory cgroup and of those above it; None if there is none."""
    limits = [limit for folder in cgroups.folders("memory") if (limit := _number(folder, _LIMIT)) is not None]
    # Version 1 writes "no limit" as a number that no machine has.
    return min((limit for limit in limits if limit < _physical_bytes()), default=None)


def available_bytes() -> float:
    """The memory that this process can still take before the kernel has to kill: free, swap, and the file cache.

    Infinite where the system does not tell.
    """
    rooms = [_machine_room()]
    for folder in cgroups.folders("memory"):
        limit, usage = _number(folder, _LIMIT), _number(folder, _USAGE)
        if limit is not None and usage is not None:
            rooms.append(limit - usage + _file_cache(folder))
    return max(0, min(rooms))


def total_bytes() -> int:
    """What no process here can exceed: the memory and the swap space, or the limit of this process's cgroup."""
    return min(_physical_bytes() + _meminfo().get("SwapTotal", 0), cgroup_limit() or 1 << 62)


# Libraries have claimed more than they use when training starts (1.6 GB, of which 0.5 GB), and use more of it later.
_CLAIMED_BYTES = 1 << 28


def room() -> float:
    """The bytes that this process may claim so that some memory stays free; infinite if unknown.

    Not less than a tenth of the memory, since not all systems tell the truth about what is available.
    """
    memory = memory_bytes()
    return max(available_bytes() - max(memory / 20, _CLAIMED_BYTES), memory / 10)


@contextlib.contextmanager
def limited(more_bytes: float) -> Iterator[None]:
    """Let this process take at most that many more bytes; what takes more raises MemoryError.

    Without it, the kernel kills a process that takes too much. Counts private memory but no mapped files, and on
    systems other than Linux nothing. Processes that are started meanwhile inherit the limit, each for itself.
    """
    if math.isinf(more_bytes):
        yield
        return
    _prepare_openblas()
    taken = _private_bytes()
    if taken is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([taken + int(more_bytes), *bounds]), hard))
    try:
        yield
    except Exception as error:  # Hydra wraps what the constructor of a network raises
        if not isinstance(error, MemoryError) and not any(text in str(error) for text in _OUT_OF_MEMORY):
            raise
        raise MemoryError(f"needs more than {in_gb(more_bytes)}, which this process could get") from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


# Products that this process computes at the same time, in threads: training, and pictures that are drawn meanwhile.
_MOST_PRODUCTS = 4


@functools.cache
def _prepare_openblas() -> None:
    """Let numpy's OpenBLAS take a buffer for each of several products at once.

    It takes a buffer when one more product is computed at the same time, and ends the process if it cannot.
    """
    import numpy as np

    # A product takes 10 ms, longer than a core stays with one thread, so they overlap on a single core, too.
    factor, begin = np.ones((700, 700)), threading.Barrier(_MOST_PRODUCTS)

    def compute(_: int) -> None:
        begin.wait()
        np.matmul(factor, factor)

    with ThreadPoolExecutor(_MOST_PRODUCTS) as threads:
        list(threads.map(compute, range(_MOST_PRODUCTS)))


# How PyTorch and its libraries say it.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "bad_alloc", "could not create a memory")


def _private_bytes() -> int | None:
    """The private memory of this process that can be written, as RLIMIT_DATA counts it; None if unknown."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmData:")).split()[1])
    return None


def resident_bytes() -> float | None:
    """The physical memory that this process uses; None on other systems than Linux."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def in_gb(num_bytes: float) -> str:
    """A number of bytes as text."""
    return f"{num_bytes / 1e9:.2g} GB" if num_bytes < 1e10 else f"{num_bytes / 1e9:,.0f} GB"


def _machine_room() -> float:
    fields = _meminfo()
    return fields["MemAvailable"] + fields.get("SwapFree", 0) if "MemAvailable" in fields else math.inf


def _meminfo() -> dict[str, int]:
    """The fields of /proc/meminfo, in bytes; none on other systems than Linux."""
    fields = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, value = line.partition(":")
            fields[name] = int(value.split()[0]) * 1024
    return fields


def _file_cache(folder: Path) -> int:
    """The bytes of files that the kernel caches for the cgroup, and drops before it kills."""
    names = {"active_file", "inactive_file", "total_active_file", "total_inactive_file"}
    sizes = {}
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in names:
                sizes[name.removeprefix("total_")] = int(value)  # of version 1, total_ comes last and counts all
    return sum(sizes.values())


def _number(folder: Path, names: tuple[str, ...]) -> int | None:
    for name in names:
        with contextlib.suppress(OSError, ValueError):  # "max" means no limit
            return int((folder / name).read_text())
    return None
