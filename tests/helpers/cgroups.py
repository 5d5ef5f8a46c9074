"""A real cgroup for tests, where this process may make one (as root, or in a delegated cgroup)."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vae_sweeps.system import cgroups, memory


@contextlib.contextmanager
def limited_to(num_bytes: int) -> Iterator[Callable[..., list[str]]]:
    """Make a cgroup with this much memory; yields a function that makes a command run in it. Skips if impossible."""
    with _made("memory", memory._LIMIT) as (folder, name):
        (folder / name).write_text(str(num_bytes))
        with contextlib.suppress(OSError):  # there may be no accounting of swap
            (folder / "memory.memsw.limit_in_bytes").write_text(str(num_bytes))
        yield _inside(folder)


@contextlib.contextmanager
def limited_to_cpus(num_cpus: float) -> Iterator[Callable[..., list[str]]]:
    """Make a cgroup with this much CPU time a second; yields a function as `limited_to` does. Skips if impossible."""
    with _made("cpu", ("cpu.max", "cpu.cfs_quota_us")) as (folder, name):
        quota, period = round(num_cpus * 100_000), 100_000
        if name == "cpu.cfs_quota_us":
            (folder / "cpu.cfs_period_us").write_text(str(period))
        (folder / name).write_text(f"{quota} {period}" if name == "cpu.max" else str(quota))
        yield _inside(folder)


def _inside(folder: Path) -> Callable[..., list[str]]:
    return lambda *command: ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh", *command]


@contextlib.contextmanager
def _made(controller: str, names: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """Make a cgroup that has one of the files `names`; yields its folder and the file's name."""
    for parent in cgroups.folders(controller):
        folder = parent / f"vae-sweeps-test-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir()
        except OSError:
            continue
        name = next((name for name in names if (folder / name).exists()), None)
        if name is not None:
            break
        folder.rmdir()
    else:
        pytest.skip(f"no cgroup for {controller} can be made here")
    try:
        yield folder, name
    finally:
        _removed(folder)


def _removed(folder: Path) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError):  # the kernel takes a moment to free the processes that have ended
            folder.rmdir()
            return
