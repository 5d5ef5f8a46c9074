"""All faults, by name: `kind/what`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.faults.scenes import NINE, NINE_ALONE, SIX, SIX_ALONE, Grid, Scene
from tests.faults.verdict import Marks

ANY = (SIX, NINE, SIX_ALONE, NINE_ALONE)
ALONE = (SIX_ALONE, NINE_ALONE)


def _always() -> str | None:
    return None


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong. `inflict` lets it happen in a scene whose grid is one of `grids`.

    `why_not` is the reason why it cannot happen on this machine, or None.
    """

    name: str
    inflict: Callable[[Scene], Marks]
    grids: Sequence[Grid] = ANY
    why_not: Callable[[], str | None] = _always

    @property
    def kind(self) -> str:
        return self.name.split("/")[0]


# How many of 30 faults are of each kind.
SHARES = {
    "kill": 5,
    "stop": 2,
    "disk": 3,
    "permission": 2,
    "clock": 3,
    "damage": 8,
    "crowd": 3,
    "namespace": 2,
    "slurm": 2,
}


def all_faults() -> list[Fault]:
    """Every fault, kind by kind."""
    from tests.faults import clocks, crowds, damage, disks, kills, slurm  # they need this module's names

    return [fault for module in (kills, disks, clocks, damage, crowds, slurm) for fault in module.FAULTS]


def kinds_of(num: int, kinds: Sequence[str]) -> list[str]:
    """The kinds of `num` faults, well mixed: each once, then in their shares."""
    chosen: dict[str, int] = dict.fromkeys(kinds, 0)
    order = []
    for _ in range(num):
        kind = min(kinds, key=lambda kind: (chosen[kind] > 0, (chosen[kind] + 1) / SHARES[kind], kind))
        chosen[kind] += 1
        order.append(kind)
    return order
