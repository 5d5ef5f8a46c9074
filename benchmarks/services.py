"""What surrounds training, in a minute: launching, evaluation, image files, W&B. `python -m benchmarks.services`.

`benchmarks.commands`, `images` and `tracking` measure the same at full size.
"""

import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import commands, images, rounds, tables, tracking
from benchmarks.main_job import timed
from tests.helpers.drawn_faces import write_celeba
from vae_sweeps.system import before_torch, cpus, machine

COMMANDS = (
    "launch.py -m, refused",
    "launch.py -m --dry-run, in a new folder",
    "launch.py -m, nothing to do",
    "vae-sweeps --help",
    "vae-sweeps status",
    "vae-sweeps results",
)
NUM_EVALUATED, NUM_FACES, NUM_TRACKED = 3, 4_000, 16


def _row(what: str, unit: str, values: Sequence[float]) -> dict[str, Any]:
    return {"what": what, "unit": unit, "values": list(values)}


def launching(sizes: Sequence[int] = (9, 1_000), num_rounds: int = 3) -> list[dict[str, Any]]:
    measured = commands.measure(sizes, num_rounds)
    return [
        _row(f"`{what}`, {size:,} points", "s", [usage.seconds for usage in usages])
        for what in COMMANDS
        for size, usages in zip(sizes, measured[what], strict=True)
    ]


def evaluation() -> list[dict[str, Any]]:
    """The default evaluation of points that have none, with the start of the command and the report."""
    with tempfile.TemporaryDirectory() as place:
        timed([sys.executable, "launch.py", "epochs=1", "tracker=none", f"output_dir={place}/first"])  # fills the cache
        seeds = f"seed=range(0,{NUM_EVALUATED})"
        where = [f"output_dir={place}", "sweep=evaluated", "evaluation=none", "tracker=none"]
        timed([sys.executable, "launch.py", "-m", seeds, "epochs=5", *where])
        command = [*commands.VAE_SWEEPS, "evaluate", "evaluated", "evaluation=fast", "--output-dir", place]
        seconds, _ = timed(command)
    return [_row(f"`vae-sweeps evaluate`, {NUM_EVALUATED} points", "s", [seconds])]


def data() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as place:
        faces = Path(place, "faces")
        write_celeba(faces, NUM_FACES)
        measured = images.decoding_rounds(faces, 2)
    alone, _, cached = zip(*measured, strict=True)
    speeds = [NUM_FACES / cpus.usable() / seconds for seconds in cached]
    return [
        _row("decoding faces of 178 x 218 into the cache", "images per second and core", speeds),
        _row("the same, against Pillow alone", "times as fast", rounds.ratios(alone, cached)),
    ]


def tracker() -> list[dict[str, Any]]:
    measured = tracking.measure(NUM_TRACKED, 3)
    return [
        _row(f"a step of {NUM_TRACKED} points with W&B {mode}", "of one without", values)
        for mode in ("offline", "online")
        if (values := rounds.ratios(measured[mode], measured["none"]))
    ]


def measure() -> list[dict[str, Any]]:
    """All four; `benchmarks.tables.services` shows what it returns."""
    logging.disable()
    machine.prepare()
    return [*launching(), *evaluation(), *data(), *tracker()]


def main() -> None:
    print(tables.markdown(tables.services(measure())))


if __name__ == "__main__":
    before_torch.prepare()
    main()
