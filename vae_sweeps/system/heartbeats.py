"""The heartbeats of all leases of this process, which a thread gives, whatever the other threads do."""

import threading
from typing import Protocol

from vae_sweeps.system.lease_owner import Owner

_BEATS_PER_LEASE = 6


class Held(Protocol):
    """A lease that needs heartbeats."""

    @property
    def owner(self) -> Owner: ...

    def beat(self) -> None:
        """Show that the owner is alive."""
        ...


def interval_s(lease_s: float) -> float:
    """The seconds between two heartbeats of a lease: 30 for one of 180 s, so that several may fail before it ends."""
    return lease_s / _BEATS_PER_LEASE


class _Keeper:
    def __init__(self) -> None:
        self._leases: set[Held] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, lease: Held) -> None:
        with self._changed:
            self._leases.add(lease)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()

    def remove(self, lease: Held) -> None:
        with self._changed:
            self._leases.discard(lease)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._leases:
                    self._thread = None
                    return
                # The leases were taken just now, which counts as a heartbeat.
                self._changed.wait(interval_s(min(lease.owner.lease_s for lease in self._leases)))
                leases = list(self._leases)
            for lease in leases:
                lease.beat()


_keeper = _Keeper()

add, remove = _keeper.add, _keeper.remove
