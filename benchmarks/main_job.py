"""The whole job: a sweep of nine points on MNIST, from the command to the table, beside plain scripts that do it.

    python -m benchmarks.main_job [--root data/mnist] [--rounds 3]

All train the same nine networks (three betas, three seeds) for one epoch on 55,000 digits, and evaluate the ELBO on all
60,000 and on the 10,000 of the test split. The plain PyTorch script trains one of them and is run nine times, one after
the other: a third of the runs in each of three rounds. The JAX script trains the nine together. Seconds are those of
the processes, from their start to their end.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import environment, tables
from benchmarks.cases import CASES, Case, specification

ROOT = Path(__file__).parents[1]
BETAS, SEEDS = (0.5, 1.0, 2.0), (0, 1, 2)
SPLITS = ("train", "val", "test")
NAMES = ("sweep", "stock", "jax")


@dataclass(frozen=True)
class Job:
    """What a program took in each round, in seconds; and each split's ELBO, the mean over the points of beta = 1."""

    name: str
    seconds: list[float] = field(default_factory=list)
    elbo: dict[str, float] = field(default_factory=dict)


def timed(command: Sequence[str], **environment: str) -> tuple[float, str]:
    """The seconds of a command, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return time.perf_counter() - began, done.stdout


def of_sweep(case: Case, root: str, *more: str) -> tuple[float, pd.DataFrame]:
    """The seconds of the sweep, and its table."""
    with tempfile.TemporaryDirectory() as folder:
        points = [f"beta={','.join(map(str, BETAS))}", f"seed={','.join(map(str, SEEDS))}"]
        fixed = ["data=mnist", f"data.root={root}", "epochs=1", "evaluation=none", "tracker=none", "sweep=job"]
        own = [sys.executable, "launch.py", "-m", *case.overrides, *points, *fixed, f"output_dir={folder}", *more]
        seconds, _ = timed(own)
        return seconds, pd.read_parquet(Path(folder, "sweeps", "job", "results.parquet"))


def measure(case: Case, root: str, num_rounds: int) -> list[Job]:
    """Time the three programs in turn; the runs of the plain script are divided among the rounds."""
    jobs = {name: Job(name) for name in NAMES}
    job = specification(case, Path()) | {"root": root}
    runs = [(beta, seed) for seed in SEEDS for beta in BETAS]
    elbos: list[dict[str, list[float]]] = []
    for number in range(num_rounds):
        seconds, table = of_sweep(case, root)
        jobs["sweep"].seconds.append(seconds)
        of_beta = table[table["beta"] == 1.0]
        jobs["sweep"].elbo.update({split: statistics.mean(of_beta[f"{split}/elbo"].tolist()) for split in SPLITS})

        script = [environment.python(), "-m", "benchmarks.peers.jax_job"]
        seconds, printed = timed([*script, json.dumps(job | {"betas": [beta for beta, _ in runs]})])
        jobs["jax"].seconds.append(seconds)
        found = json.loads(printed)
        places = [i for i, (beta, _) in enumerate(runs) if beta == 1.0]
        jobs["jax"].elbo.update({split: statistics.mean(found[split][i] for i in places) for split in SPLITS})

        part = runs[number::num_rounds]
        took = 0.0
        for beta, seed in part:
            one = [sys.executable, "-m", "benchmarks.peers.stock", json.dumps(job | {"beta": beta, "seed": seed})]
            seconds, printed = timed(one)
            took += seconds
            elbos += [json.loads(printed)] if beta == 1.0 else []
        jobs["stock"].seconds.append(took * len(runs) / len(part))
    jobs["stock"].elbo.update({split: statistics.mean(found[split][0] for found in elbos) for split in SPLITS})
    return list(jobs.values())


def as_json(case: Case, jobs: Sequence[Job]) -> dict[str, Any]:
    return {"case": case.name, "batch_size": case.point.batch_size, "jobs": [asdict(job) for job in jobs]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data/mnist", help="the folder of MNIST's four files")
    parser.add_argument("--rounds", type=int, default=3, choices=(1, 3, 9))
    asked = parser.parse_args()
    for case in CASES[:2]:
        print(f"{case.name}, batch {case.point.batch_size}")
        for row in tables.main_job(as_json(case, measure(case, asked.root, asked.rounds))):
            print(*row, sep="\t", flush=True)


if __name__ == "__main__":
    main()
