"""A whole sweep on one GPU, from the command to the report, beside single runs of four of its points.

    python -m benchmarks.gpu.sweep --root data/mnist [--keep FOLDER] [--to FILE]

By default 256 points (beta, sigma, latent size, seed) of 20 epochs on MNIST. The single runs are commands of their own,
one after the other, whose mean stands for the rest; all make the same pictures, tables and reports.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.main_job import timed
from vae_sweeps.system.usage import device_name

_GRID = {"beta": (0.1, 0.5, 1, 4), "likelihood.sigma": (0.3, 1), "latent": (2, 5, 10, 50)}
_SINGLE = [("beta=0.1", "latent=2"), ("beta=0.5", "latent=5"), ("beta=1", "latent=10"), ("beta=4", "latent=50")]


def measure(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The seconds of the sweep and of each single run, and the time of the device that the sweep's training took."""
    fixed = [
        "data=mnist",
        f"data.root={Path(asked.root).resolve()}",
        f"epochs={asked.epochs}",
        f"device={asked.device}",
    ]
    fixed += ["likelihood=gaussian", "evaluation=none", "tracker=none"]
    swept = [f"{key}={','.join(map(str, values))}" for key, values in _GRID.items()]
    seeds, packs = f"seed=range({asked.seeds})", f"max_pack={asked.max_pack}"
    sweep_s = _timed(["-m", *swept, seeds, packs, "sweep=whole", *fixed, f"output_dir={folder / 'sweep'}"])
    single_s = [
        _timed([*point, "likelihood.sigma=1", *fixed, f"output_dir={folder / f'single{i}'}"])
        for i, point in enumerate(_SINGLE[: asked.singles])
    ]
    table = pd.read_parquet(folder / "sweep" / "sweeps" / "whole" / "results.parquet")
    return {
        "device": device_name(torch.device(asked.device)),
        "num_points": len(table),
        "num_done": len(table[table["status"] == "done"]),
        "epochs": asked.epochs,
        "max_pack": asked.max_pack,
        "sweep_s": sweep_s,
        "training_s": sum(map(float, table["time_s"])),
        "single_s": single_s,
        "all_single_s": statistics.mean(single_s) * len(table),
    }


def _timed(arguments: Sequence[str]) -> float:
    return timed([sys.executable, "launch.py", *arguments])[0]


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data/mnist", help="the folder of MNIST's four files")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=8, help="of each of the 32 settings")
    parser.add_argument("--max-pack", type=int, default=128, metavar="K")
    parser.add_argument("--singles", type=int, default=4, choices=(1, 2, 3, 4), help="single runs that are timed")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for the runs, the report and the pictures")
    parser.add_argument("--to", type=Path, metavar="FILE", help="for the figures, as JSON")
    asked = parser.parse_args()
    with _folder(asked.keep) as folder:
        found = measure(asked, folder)
    text = json.dumps(found, indent=1)
    print(text)
    if asked.to:
        asked.to.write_text(text + "\n")


if __name__ == "__main__":
    main()
