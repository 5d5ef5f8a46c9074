"""Claims: at most one process writes into a run's folder. See `system/lease.py`."""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace

from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import lease

log = logging.getLogger(__name__)


def is_held(run: RunFolder) -> bool:
    """Whether a living process (this one or another) works on the run."""
    return lease.is_held(run.path)


def remove_stale(run: RunFolder) -> None:
    """Remove the claims of processes that were killed after the run was done, when nobody claims it again."""
    if lease.all_of(run.path):
        with taken([run]):
            pass  # whoever takes a claim removes older ones


@contextlib.contextmanager
def taken(runs: Iterable[RunFolder]) -> Iterator[list[RunFolder]]:
    """Claim those of `runs` that no other process works on, and release them at the end.

    Yields folders that write through their claim: if another process takes a run over, writing raises LostLeaseError.
    A folder that cannot be written, or that contains links, which writing would follow, is reported and left out.
    """
    claimed: list[RunFolder] = []
    try:
        for run in runs:
            try:
                run.refuse_links()
                held = lease.take(run.path)
            except ValueError as error:
                log.error("%s; the run is left out", error)
                continue
            except PermissionError as error:
                log.error("%s: cannot be written (%s); the run is left out", run.path, error.strerror)
                continue
            if held is not None:
                claimed.append(replace(run, lease=held))
        yield claimed
    finally:
        for run in claimed:
            assert run.lease is not None
            with contextlib.suppress(OSError):
                run.lease.release()
