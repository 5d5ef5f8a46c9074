"""All that README and docs/performance.md quote: `python -m benchmarks`, which `make bench` runs.

    python -m benchmarks [--root data/mnist] [--to benchmarks/results.json] [--parts PART ...]

Writes the figures of every round, the machine and the versions as JSON, and prints the tables; `docs/
make_performance_tables` puts them into the documents. Parts that are left out keep the figures of the file. The
environment of the other libraries is made first, which takes minutes once.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks import environment, growth, main_job, services, tables, training
from benchmarks.cases import CASES
from vae_sweeps.system import cpus
from vae_sweeps.system.logs import count
from vae_sweeps.system.usage import device_name

RESULTS = Path(__file__).parent / "results.json"
PARTS = tables.PARTS


def machine() -> str:
    """The processor and how many of its CPUs this process may use."""
    return f"{device_name(torch.device('cpu'))}, {count(cpus.usable(), 'CPU')}"


def versions() -> dict[str, str]:
    """Python and the libraries of both environments."""
    ask = "from importlib import metadata; print(*(metadata.version(n) for n in ('jax', 'optax', 'pythae')))"
    peers = subprocess.run([environment.python(), "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    own = {name: metadata.version(name) for name in ("vae-sweeps", "torch")}
    return {"Python": platform.python_version(), **own, **dict(zip(("jax", "optax", "pythae"), peers, strict=True))}


def measure(part: str, root: str, main_job_rounds: int) -> Iterator[dict[str, Any]]:
    """One part of the results, item by item."""
    if part == "training":
        for case in CASES:
            is_mlp = "hidden" in case.point.arch
            yield training.as_json(case, training.measure(case, num_rounds=5 if is_mlp else 2))
    elif part == "main_job":
        for case in CASES[:2]:
            yield main_job.as_json(case, main_job.measure(case, root, main_job_rounds))
    else:
        yield from growth.measure() if part == "growth" else services.measure()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data/mnist", help="the folder of MNIST's four files")
    parser.add_argument("--to", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--cpus", type=int, nargs="+", metavar="CPU", help="use only these CPUs; default: all")
    parser.add_argument("--main-job-rounds", type=int, default=3, choices=(1, 3, 9))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    asked = parser.parse_args()
    if asked.cpus:
        os.sched_setaffinity(0, asked.cpus)  # of the processes that it starts, too
    results = json.loads(asked.to.read_text()) if asked.to.exists() else {}
    results["versions"] = versions()
    began = time.monotonic()
    for part in asked.parts:
        results[part] = []
        for item in measure(part, asked.root, asked.main_job_rounds):
            # The load of the machine before and while it was measured: also of the measured programs themselves.
            results[part].append(item | {"machine": machine(), "load": round(os.getloadavg()[1], 1)})
            asked.to.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    if set(PARTS) <= results.keys():
        for text in tables.rendered(results).values():
            print(text)


if __name__ == "__main__":
    main()
