"""The cgroups of this process, which limit its memory and its CPU time; none on other systems than Linux."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path


def folders(controller: str) -> list[Path]:
    """The folders of this process's cgroup for "memory" or "cpu" and of those above it, as far as they can be seen."""
    try:
        lines = Path("/proc/self/cgroup").read_text()
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return []
    return [*_from_files(lines, mounts, controller)]


@lru_cache(maxsize=4)
def _from_files(cgroups: str, mountinfo: str, controller: str) -> tuple[Path, ...]:
    """The folders, from the contents of /proc/self/cgroup and /proc/self/mountinfo."""
    return tuple(
        folder
        for of_version, controllers, path in (line.split(":", 2) for line in cgroups.splitlines())
        for mount, root in _mounts(mountinfo, None if of_version == "0" else controller)
        if of_version == "0" or controller in controllers.split(",")
        for folder in _upwards(mount, root, path)
    )


def _mounts(mountinfo: str, controller: str | None) -> Iterator[tuple[Path, str]]:
    """Where cgroups of version 1 with `controller`, or of version 2, are mounted, and the cgroup on top of each."""
    for line in mountinfo.splitlines():
        mount, _, rest = line.partition(" - ")
        kind, _, options = rest.split()[:3]
        if kind == "cgroup2" if controller is None else kind == "cgroup" and controller in options.split(","):
            root, point = mount.split()[3:5]
            yield Path(point.encode().decode("unicode_escape")), root


def _upwards(mount: Path, root: str, path: str) -> list[Path]:
    """The folders from the cgroup `path` up to the mount's top; only the top if the mount shows another part.

    A container without a namespace for cgroups sees its own cgroup mounted, and its path on the host.
    """
    if root != "/":
        path = path.removeprefix(root) if path == root or path.startswith(f"{root}/") else "/"
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        parts = []
    return [mount.joinpath(*parts[:n]) for n in range(len(parts), -1, -1)]
