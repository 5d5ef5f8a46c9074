"""A real memory cgroup for tests, where this process may make one (as root, or in a delegated cgroup)."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vae_sweeps.system import memory


@contextlib.contextmanager
def limited_to(num_bytes: int) -> Iterator[Callable[..., list[str]]]:
    """Make a cgroup with this limit; yields a function that makes a command run in it. Skips if that is impossible."""
    for parent in memory._cgroups():
        folder = parent / f"vae-sweeps-test-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir()
        except OSError:
            continue
        name = next((name for name in memory._LIMIT if (folder / name).exists()), None)
        if name is not None:
            break
        folder.rmdir()
    else:
        pytest.skip("no memory cgroup can be made here")
    try:
        (folder / name).write_text(str(num_bytes))
        with contextlib.suppress(OSError):  # there may be no accounting of swap
            (folder / "memory.memsw.limit_in_bytes").write_text(str(num_bytes))
        yield lambda *command: ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh", *command]
    finally:
        _removed(folder)


def _removed(folder: Path) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError):  # the kernel takes a moment to free the processes that have ended
            folder.rmdir()
            return
