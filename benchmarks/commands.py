"""How long commands take, and how much memory, for sweeps of several sizes: `python -m benchmarks.commands`.

One tiny point is trained. The other points of a sweep are folders that the project's own functions write, with its rows
and its result, whose metrics differ a little. `--points` gives the sizes of the sweeps. Small sweeps are measured
several times, and the median is shown. This process imports no torch: Linux counts its memory as its children's.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vae_sweeps.config.compose import compose_command
from vae_sweeps.config.identity import run_id, run_name
from vae_sweeps.data.remembered import recall
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder

ROOT = Path(__file__).parents[1]
TINY = ["arch.hidden=[3]", "steps=2", "evaluation=none", "tracker=none"]
ROUNDS, SMALL = 5, 100
VAE_SWEEPS = [str(Path(sys.executable).parent / "vae-sweeps")]


@dataclass(frozen=True)
class Usage:
    """What a command took: seconds from its start to its end, and its largest memory."""

    seconds: float
    megabytes: float


def run(command: Sequence[str], code: int = 0) -> Usage:
    """Run a command, which must exit with `code`, without its output."""
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == code, command
    return Usage(time.monotonic() - began, usage.ru_maxrss / 1000)


def launch(num: int, output_dir: Path, *options: str) -> list[str]:
    """The command that launches a sweep of `num` points."""
    own = [f"seed=range(0,{num})", *TINY, f"output_dir={output_dir}", f"sweep=of-{num}"]
    return [sys.executable, str(ROOT / "launch.py"), "-m", *own, *options]


def make_sweep(trained: RunFolder, num: int, output_dir: Path) -> None:
    """Make the sweep that `launch` launches, as if all its points had been trained."""
    point, options = compose_command([*TINY, f"output_dir={output_dir}", f"sweep=of-{num}"])
    data, draw = recall(point.data), random.Random(0)
    assert data is not None
    result, names = trained.unseal_result(), []
    for seed in range(num):
        of_seed = replace(point, seed=seed)
        folder = RunFolder.under(output_dir, run_name(of_seed, run_id(of_seed, data.fingerprint)))
        folder.create(of_seed, options, [f"seed={seed}"], data_fingerprint=data.fingerprint)
        shutil.copy(trained.rows, folder.rows)
        metrics = {name: value * draw.uniform(0.9, 1.1) for name, value in result["metrics"].items()}
        folder.write_result(result | {"metrics": metrics})
        names.append(folder.name)
    SweepFolder.under(output_dir, f"of-{num}").add(names, ["seed"])


def commands(num: int, folder: Path) -> dict[str, Callable[[], Usage]]:
    """What is measured on a sweep of `num` points, which `make_sweep` has made in `folder`."""
    name, where = f"of-{num}", ["--output-dir", str(folder)]
    report = SweepFolder.under(folder, name).report

    def written_anew() -> Usage:
        report.unlink(missing_ok=True)
        return run(launch(num, folder))

    return {
        "launch.py -m, refused": lambda: run(launch(num, folder, "beta=-1"), code=2),
        "launch.py -m --dry-run, in a new folder": lambda: run(launch(num, folder / "new", "--dry-run")),
        "launch.py -m, nothing to train, a report to write": written_anew,
        "launch.py -m, nothing to do": lambda: run(launch(num, folder)),
        "vae-sweeps --help": lambda: run([*VAE_SWEEPS, "--help"]),
        "vae-sweeps status": lambda: run([*VAE_SWEEPS, "status", name, *where]),
        "vae-sweeps results": lambda: run([*VAE_SWEEPS, "results", name, *where]),
        "vae-sweeps list": lambda: run([*VAE_SWEEPS, "list", *where]),
        "vae-sweeps report": lambda: run([*VAE_SWEEPS, "report", name, *where]),
    }


def median(measured: Sequence[Usage]) -> Usage:
    """The median of the times, and of the sizes."""
    return Usage(statistics.median(u.seconds for u in measured), statistics.median(u.megabytes for u in measured))


def measure(sizes: Sequence[int], num_rounds: int) -> dict[str, list[list[Usage]]]:
    """What each command took, for each size of a sweep and each round; large sweeps have one round."""
    shown: dict[str, list[list[Usage]]] = {}
    with tempfile.TemporaryDirectory() as place:
        run([sys.executable, str(ROOT / "launch.py"), *TINY, f"output_dir={place}/one"])
        (trained,) = all_runs(Path(place, "one"))
        folders = {num: Path(place, f"sweep-of-{num}") for num in sizes}
        for num, folder in folders.items():
            make_sweep(trained, num, folder)
        timed = {num: commands(num, folder) for num, folder in folders.items()}
        for what in timed[sizes[0]]:
            shown[what] = [[timed[num][what]() for _ in range(num_rounds if num <= SMALL else 1)] for num in sizes]
            row = (f"{used.seconds:.2f} s, {used.megabytes:,.0f} MB" for used in map(median, shown[what]))
            print(what, *row, sep="\t", file=sys.stderr, flush=True)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description="Time commands on sweeps of several sizes.")
    parser.add_argument("--points", type=int, nargs="+", default=[9, 1_000, 10_000])
    sizes = parser.parse_args().points
    shown = Table("command", *(f"{num:,} points" for num in sizes))
    for what, measured in measure(sizes, ROUNDS).items():
        medians = (median(used) for used in measured)
        shown.add_row(what, *(f"{used.seconds:.2f} s, {used.megabytes:,.0f} MB" for used in medians))
    Console(width=120).print(shown)


if __name__ == "__main__":
    main()
