"""Speed of a training step: packs of K models beside other programs that train the same networks on the same images.

    python -m benchmarks.training [CASE ...] [--only NAME ...] [--device cpu]

Each program runs in a process of its own, which waits while another one is measured. All take turns, round after round.
The figure of a turn is the time of a step that a tenth of its steps undercut, in ms per step and point: other programs
on the machine disturb it least. Of these the medians over the rounds are shown; ratios are formed within each round,
since the machine's speed may drift. `benchmarks.cases` has the networks.

On a GPU a turn's figure is the time of a run of steps, divided by their number, since a GPU computes a step while later
ones are launched; pythae is left out. `python -m benchmarks.gpu` measures a GPU in full.
"""

import argparse
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import tables
from benchmarks.cases import CASES, Case, images_of, specification
from benchmarks.processes import MODULES, Processes

SECONDS_PER_TURN, LARGEST = 0.3, 27


@dataclass(frozen=True)
class Row:
    """What was measured of k models of a program: `ms` per step and point in each round; `elbo` in nats per image."""

    name: str
    k: int
    ms: list[float] = field(default_factory=list)
    elbo: float | None = None


def contestants(case: Case, only: Collection[str] | None = None, device: str = "cpu") -> list[tuple[str, int]]:
    """Programs and numbers of models of a case. On large images few programs train many models: that takes minutes."""
    is_mlp = "hidden" in case.point.arch
    many = [1, 3, 9, LARGEST]
    of_peers = many if is_mlp else [1, 3]
    sizes = {"pack": many, "vmap": of_peers, "jax": many if is_mlp else [1], "bare": [1], "tight": [1], "pythae": [1]}
    if device == "cuda":
        sizes = {**sizes, "compiled": [1], "pythae": []}
    if is_mlp:
        sizes |= {"pack-3-rates": [9], "pack-9-rates": [9]}
    return [(name, k) for name in MODULES if only is None or name in only for k in sizes.get(name, [])]


def measure(
    case: Case,
    *,
    num_rounds: int,
    only: Collection[str] | None = None,
    seconds: float = SECONDS_PER_TURN,
    device: str = "cpu",
    peers_python: str | None = None,
) -> list[Row]:
    """Time all programs on one network, in turn.

    First, each trains new weights for two epochs, which also compiles and warms up; the ELBO is that of the last
    epoch's batches. Packs of 27 only take a turn to warm up; those of convolutional networks have one round alone.
    """
    rows = [Row(name, k) for name, k in contestants(case, only, device)]
    turn, figure = ("turn", "fast_ms") if device == "cpu" else ("run", "ms")
    is_mlp = "hidden" in case.point.arch
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "images.npy")
        images = images_of(case)
        np.save(file, images)
        asked = specification(case, file, device)
        steps_per_epoch = len(images) // case.point.batch_size
        with Processes(asked, peers_python) as processes:
            learned: dict[tuple[str, int], dict[str, Any]] = {}
            for row in rows:
                if row.k < LARGEST:
                    steps = {"steps": 2 * steps_per_epoch, "last": steps_per_epoch}
                    learned[row.name, row.k] = processes.ask(row.name, row.k, do="learn", **steps)
                elif is_mlp:
                    processes.ask(row.name, row.k, do=turn, seconds=0.01)
            for number in range(num_rounds):
                for row in rows:
                    if row.k < LARGEST or is_mlp or number == num_rounds - 1:
                        row.ms.append(processes.ask(row.name, row.k, do=turn, seconds=seconds)[figure])
    sizes = {answer["num_params"] for answer in learned.values()}
    assert len(sizes) == 1, f"{case.name}: the programs train different networks, of {sizes} weights"
    elbos = {key: answer["elbo"] for key, answer in learned.items() if "rates" not in key[0] and key[0] != "bare"}
    return [Row(row.name, row.k, row.ms, elbos.get((row.name, row.k))) for row in rows]


def as_json(case: Case, rows: Sequence[Row]) -> dict[str, Any]:
    return {"case": case.name, "batch_size": case.point.batch_size, "rows": [asdict(row) for row in rows]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="networks; default: all", default=[case.name for case in CASES])
    parser.add_argument("--only", nargs="+", choices=MODULES, metavar="NAME", help=f"of {', '.join(MODULES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--peers-python", metavar="PATH", help="the Python of JAX; default: an environment is made")
    asked = parser.parse_args()
    for case in CASES:
        if case.name in asked.cases:
            settings = {"device": asked.device, "peers_python": asked.peers_python}
            measured = as_json(case, measure(case, num_rounds=asked.rounds, only=asked.only, **settings))
            head, *rows = tables.training(measured)
            shown = Table(*head, title=f"{case.name}, batch {case.point.batch_size}", title_justify="left")
            for row in rows:
                shown.add_row(*row)
            Console(width=140).print(shown)


if __name__ == "__main__":
    main()
