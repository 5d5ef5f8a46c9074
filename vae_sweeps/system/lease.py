"""Leases: at most one process works in a folder. Works without file locks, across hosts, containers and NFS.

A lease on a folder is a subfolder `<name>-<N>`, created by renaming a prepared folder, which fails if another process
was faster. The highest number holds. It contains `owner.json`, whose time of modification is the heartbeat, and a
private folder, in which the owner prepares each file before it moves the file to its place. To take over the lease of
a process that is gone, a process creates number N + 1 and then removes number N with its private folder. From then on
the earlier owner cannot move anything to its place, whatever it was doing at the time: the operating system refuses.
"""

import contextlib
import errno
import json
import os
import secrets
import shutil
import time
from dataclasses import asdict, fields
from pathlib import Path

from vae_sweeps.system import heartbeats
from vae_sweeps.system.files import create, write_whole
from vae_sweeps.system.lease_owner import Owner, duration_s, runs_here, this_process

_OWNER = "owner.json"
_UNSEEN = ".new"  # the ending of a folder that is not yet, or no longer, a lease


class LostLeaseError(RuntimeError):
    """Another process has taken over the folder, because this process gave no sign of life for too long."""


def numbered(folder: Path, name: str) -> list[tuple[int, Path]]:
    """The leases on `folder`, in ascending order."""
    prefix = f"{name}-"
    try:
        names = [entry for entry in os.listdir(folder) if entry.startswith(prefix)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    numbers = [int(entry.removeprefix(prefix)) for entry in names if entry.removeprefix(prefix).isdigit()]
    return [(number, folder / f"{prefix}{number}") for number in sorted(numbers)]


def _read_owner(lease: Path) -> tuple[Owner | None, float]:
    """The owner, or None if its file is damaged or missing, and the time of its last heartbeat.

    Raises FileNotFoundError if there is no such lease.
    """
    path = lease / _OWNER
    try:
        beat = path.stat().st_mtime
    except FileNotFoundError:
        return None, lease.stat().st_mtime
    try:
        content = json.loads(path.read_bytes())
        owner = Owner(**{field.name: content[field.name] for field in fields(Owner)})
        return (owner if isinstance(owner.pid, int) and isinstance(owner.lease_s, float) else None), beat
    except (ValueError, KeyError, TypeError):
        return None, beat


def clock_of(folder: Path) -> float:
    """The present time of the folder's file system, which may be a server with a clock of its own."""
    probe = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        probe.touch(exist_ok=False)
        return probe.stat().st_mtime
    except OSError:  # it cannot be written to
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def _is_held(lease: Path) -> bool:
    """Whether the owner of `lease` may be working. Raises FileNotFoundError if it has just been released.

    A process of this boot and pid namespace is looked up. For any other, its silence decides.
    """
    owner, beat = _read_owner(lease)
    here = this_process()
    if owner is not None and (owner.boot, owner.pid_namespace) == (here.boot, here.pid_namespace):
        return runs_here(owner)
    if owner is not None and owner.job is not None and owner.job == here.job and owner.restarts < here.restarts:
        return False  # SLURM has started this job again
    # A heartbeat in the future comes from a clock that was set back, and proves nothing.
    silence_s = abs(clock_of(lease.parent) - beat)
    return silence_s <= (duration_s() if owner is None else owner.lease_s)


def is_held(folder: Path, name: str = ".claim") -> bool:
    """Whether a living process (this one or another) holds a lease on `folder`."""
    leases = numbered(folder, name)
    try:
        return bool(leases) and _is_held(leases[-1][1])
    except FileNotFoundError:
        return False


class Lease:
    """A lease that this process holds. A thread keeps it alive until it is released, or a `with` block ends."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path, self.owner = path, owner
        self.private = path / owner.token
        self._confirmed_at, self._is_lost = _since_boot(), False
        heartbeats.add(self)

    def beat(self) -> None:
        """Show that the owner is alive, and find out whether the lease was taken over."""
        if self._is_lost:
            return
        folder, name = self.path.parent, self.path.name.rsplit("-", 1)[0]
        before = _since_boot()
        try:
            os.utime(self.path / _OWNER)
            is_lost = not self.private.is_dir() or numbered(folder, name)[-1][1] != self.path
        except (FileNotFoundError, NotADirectoryError):
            is_lost = True
        except OSError:
            return  # the file system does not answer or is read-only; time passes
        self._is_lost = is_lost
        self._confirmed_at = before

    def is_held(self) -> bool:
        """Whether the lease is still held; asks the file system again if half of its duration has passed."""
        if _since_boot() - self._confirmed_at > self.owner.lease_s / 2:
            self.beat()
        return not self._is_lost

    def check(self) -> None:
        """Raise LostLeaseError if another process has taken over."""
        if not self.is_held():
            raise self._lost()

    def _lost(self) -> LostLeaseError:
        self._is_lost = True
        return LostLeaseError(f"{self.path.parent}: taken over by another process")

    def write(self, path: Path, content: str | bytes) -> None:
        """Write `path` atomically, as `write_whole`. Raises LostLeaseError, and then has written nothing."""
        self.check()
        try:
            write_whole(path, content, aside=self.private)
        except OSError as error:
            raise self._lost_or(error) from error

    def move(self, prepared: Path, path: Path) -> None:
        """Move a file from the private folder to its place. Raises LostLeaseError, and then has moved nothing."""
        self.check()
        try:
            os.replace(prepared, path)
        except OSError as error:
            raise self._lost_or(error) from error

    def _lost_or(self, error: OSError) -> Exception:
        is_gone = error.errno in (errno.ENOENT, errno.ESTALE) and not self.private.is_dir()
        return self._lost() if is_gone else error

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give up the lease; a lease of another process, which has taken over, stays."""
        heartbeats.remove(self)
        if self.private.is_dir():
            remove(self.path)


def take(folder: Path, name: str = ".claim") -> Lease | None:
    """Take the lease on `folder`; returns None if a living process holds it. Raises OSError if it is read-only."""
    owner = this_process()
    prepared = folder / f"{name}-{owner.token}{_UNSEEN}"
    try:
        prepared.mkdir()
        with create(prepared / _OWNER) as file:  # not flushed: a power cut ends all claims
            file.write(json.dumps(asdict(owner)).encode())
        (prepared / owner.token).mkdir()
        while True:
            leases = numbered(folder, name)
            try:
                if leases and _is_held(leases[-1][1]):
                    return None
            except FileNotFoundError:
                continue  # it has just been released
            number = leases[-1][0] + 1 if leases else 1
            path = folder / f"{name}-{number}"
            try:
                prepared.rename(path)
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                    continue  # another process was faster
                raise
            return _settle(Lease(path, owner), leases, folder, name)
    finally:
        _delete(prepared)


def _settle(lease: Lease, judged: list[tuple[int, Path]], folder: Path, name: str) -> Lease | None:
    """Remove what earlier owners left. Withdraws if the folder was not as `take` saw it (listings may be old)."""
    present = numbered(folder, name)
    known = {path for _, path in judged} | {lease.path}
    if present[-1][1] != lease.path or not known.issuperset(path for _, path in present):
        lease.release()
        return None
    for _, path in present[:-1]:
        remove(path)
    for left in abandoned(folder, name):
        _delete(left)
    return lease


def all_of(folder: Path, name: str = ".claim") -> list[Path]:
    """The leases on `folder`, and what is left of those that were being taken or released."""
    return [*(path for _, path in numbered(folder, name)), *abandoned(folder, name)]


def abandoned(folder: Path, name: str = ".claim") -> list[Path]:
    """Folders that processes left behind when they were killed while they took or released a lease."""
    return [path for path in folder.glob(f"{name}-*{_UNSEEN}") if not _is_being_used(path)]


def _is_being_used(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return _is_held(path)
    return False


def remove(lease: Path) -> None:
    """Remove a lease in one step, so that nobody sees a part of it."""
    gone = lease.with_name(f"{lease.name.rsplit('-', 1)[0]}-{secrets.token_hex(8)}{_UNSEEN}")
    with contextlib.suppress(FileNotFoundError):
        lease.rename(gone)
        _delete(gone)


def _delete(folder: Path) -> None:
    """Delete a folder, its owner last: if this process is killed meanwhile, the next one knows that it is gone.

    While another process reads a file in it, NFS keeps that file under another name: try again.
    """
    for pause_s in (0.01, 0.1, 0.5, None):
        try:
            for private in [path for path in folder.iterdir() if path.is_dir()]:
                shutil.rmtree(private)
            shutil.rmtree(folder)
        except FileNotFoundError:
            return  # there is no such folder, or another process is deleting it
        except OSError:
            if pause_s is not None:
                time.sleep(pause_s)
        else:
            return


def wait_for(folder: Path, name: str, timeout_s: float = float("inf")) -> Lease:
    """Take the lease `name` on `folder` as soon as no other process holds it. Raises TimeoutError."""
    end, pause_s = time.monotonic() + timeout_s, 0.01
    while (lease := take(folder, name)) is None:
        if time.monotonic() > end:
            raise TimeoutError(f"{folder}: another process works there")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.5)
    return lease


def _since_boot() -> float:
    """Seconds on a clock that nobody sets, and that does not stop while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
