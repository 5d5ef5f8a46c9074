"""Elastic workers on a disturbed cluster against static packs on an undisturbed one: `python -m benchmarks.elastic`.

Starts a real SLURM with three pretend nodes (see `tests/helpers/slurm_cluster.py`), as root. The static sweep has the
cluster to itself. While the elastic one runs, a node is preempted every minute, two nodes go down and come back, one
squeue call in five fails, and a user may have no more than ten jobs. Then each point must have been trained once, with
the numbers of the local launcher. Prints both times; the exit code is 1 if a point or a number differs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pandas as pd

import vae_sweeps
from tests.helpers.slurm_cluster import Cluster
from vae_sweeps.runs.run_folder import RunFolder, runs_folder

ROOT = Path(__file__).parents[1]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2"]
ELASTIC = ["hydra.launcher.elastic=true", "hydra.launcher.packs=8", "hydra.launcher.partition=low"]

# In double precision. In single precision other packs round differently, which training may enlarge.
_EQUAL = 1e-9

FAILING = """#!/bin/sh
n=$(cat {counter} 2>/dev/null || echo 0); echo $((n + 1)) > {counter}
if [ $((n % 5)) -eq 0 ]; then echo "slurm_load_jobs error: Socket timed out on send/recv operation" >&2; exit 1; fi
exec {real} "$@"
"""


def _grid(num_points: int, steps: int, max_pack: int | None) -> list[str]:
    seeds = ",".join(map(str, range(num_points // 6)))
    grid = ["-m", "beta=0.1,1", "latent=2,5,10", f"seed={seeds}", "sweep=grid", "evaluation=none", "tracker=none"]
    size = [f"max_pack={max_pack}"] if max_pack else []
    return [*grid, f"steps={steps}", "log_every_steps=100", "checkpoint_every_s=5", "pictures_at_epochs=[]", *size]


def _launch(arguments: list[str], output_dir: Path, **environment: str) -> None:
    command = [sys.executable, "launch.py", *arguments, f"output_dir={output_dir}"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, capture_output=True, text=True
    )
    print(done.stdout.splitlines()[0] if done.stdout else done.stderr, flush=True)
    if done.returncode != 0:
        sys.exit(done.stderr)


def _timed(arguments: list[str], output_dir: Path, **environment: str) -> float:
    """Seconds from the launch to the result of the last point."""
    began = time.time()
    _launch(arguments, output_dir, **environment)
    command = [str(Path(sys.executable).parent / "vae-sweeps"), "wait", "grid", "--output-dir", str(output_dir)]
    subprocess.run(command, env=os.environ | environment, stdout=subprocess.DEVNULL, check=False)
    return max(run.stat().st_mtime for run in runs_folder(output_dir).glob("*/result.json")) - began


class _Disturbance:
    """Preempts a node every minute, and sets two nodes down for half a minute."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._stop = cluster, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.done: list[str] = []

    def __enter__(self) -> "_Disturbance":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        minute = 0
        while not self._stop.wait(30):
            minute += 1
            node = f"n{minute % 3 + 1}"
            self._do(f"sbatch -p high -w {node} -c 4 -o /dev/null --wrap hostname", f"{node} preempted")
            if self._stop.wait(30):
                return
            if minute in (1, 2):
                down = f"n{minute + 1}"
                self._do(f"scontrol update nodename={down} state=drain reason=test", f"{down} drained")
                self._do(f"scontrol update nodename={down} state=down reason=test", f"{down} down")
                self._stop.wait(20)
                self._do(f"scontrol update nodename={down} state=resume", f"{down} back")

    def _do(self, command: str, name: str) -> None:
        try:
            self._cluster.run(*command.split())
        except AssertionError as error:
            name = f"{name}: {error}"
        self.done.append(name)


def _numbers(output_dir: Path) -> pd.DataFrame:
    table = vae_sweeps.results(output_dir / "sweeps" / "grid")
    assert set(table["status"]) == {"done"}, table["status"].value_counts()
    names = [name for name in table if name.startswith(("train/", "val/", "test/"))]
    return pd.DataFrame(table.set_index("run_id")[names]).sort_index().astype(float)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=300)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--max-pack", type=int)
    parser.add_argument("--precision", choices=["fp32", "fp64"], default="fp64")
    asked = parser.parse_args()
    grid = [*_grid(asked.points, asked.steps, asked.max_pack), f"precision={asked.precision}"]
    with tempfile.TemporaryDirectory(prefix="vs-") as base:
        folder = Path(base)
        with Cluster(folder / "a") as quiet:
            static_s = _timed([*grid, *SLURM], folder / "static", **quiet.environment)
        print(f"static packs, undisturbed: {static_s:.0f} s", flush=True)
        failing = folder / "bin" / "squeue"
        failing.parent.mkdir()
        failing.write_text(FAILING.format(counter=folder / "squeue.count", real="/usr/bin/squeue"))
        failing.chmod(0o755)
        with Cluster(folder / "b", max_submit_jobs=10, grace_s=30) as cluster, _Disturbance(cluster) as disturbance:
            path = f"{failing.parent}:{os.environ['PATH']}"
            elastic_s = _timed([*grid, *SLURM, *ELASTIC], folder / "elastic", PATH=path, **cluster.environment)
        print(f"elastic workers, disturbed: {elastic_s:.0f} s, {elastic_s / static_s:.2f} times; {disturbance.done}")
        _launch(grid, folder / "local")
        local, elastic, static = (_numbers(folder / name) for name in ("local", "elastic", "static"))
        twice = 0
        for path_ in runs_folder(folder / "elastic").iterdir():
            steps = [row["step"] for row in RunFolder(path_).read_rows()]
            twice += steps != sorted(set(steps))
        differing = {name: _largest(local, other) for name, other in (("elastic", elastic), ("static", static))}
        print(f"points: {len(elastic)}, of which logged a step twice: {twice}")
        print(f"largest relative difference to the local launcher's numbers: {differing}")
        is_equal = differing["elastic"] < _EQUAL or asked.precision == "fp32"
        return int(twice > 0 or len(elastic) != len(local) or not is_equal)


def _largest(numbers: pd.DataFrame, others: pd.DataFrame) -> float:
    return float(((numbers - others).abs() / numbers.abs().clip(lower=1e-6)).max().max())


if __name__ == "__main__":
    sys.exit(_main())
