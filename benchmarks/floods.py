"""How long the commands take for thousands of finished runs, and for one run with a million rows; with their memory.

    python -m benchmarks.floods --runs 10000 --rows 1000000 --folder /tmp/floods

One tiny sweep of 20 latent sizes is trained. Other finished runs are made of it with the project's own functions: each
gets a beta and a seed of its own, and the checkpoint, rows, pictures and result of the trained run with its latent
size. What is in the folder already is used again. Each command then runs in a process of its own.
"""

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vae_sweeps.config.identity import run_id, run_name
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files

NUM_LATENTS, NUM_SEEDS = 20, 10
TINY = ["arch.hidden=[8]", "epochs=10", "log_every_steps=20", "pictures_every_epochs=null", "tracker=none"]
LAUNCH = [sys.executable, "launch.py", "-m", *TINY]
VAE_SWEEPS = [str(Path(sys.executable).with_name("vae-sweeps"))]
# Starts a command and prints its exit status, peak memory and CPU time. It is a process of its own, because a command's
# memory counts from the fork, so that of this process, which has imported torch, would be counted too.
MEASURE = """
import os, subprocess, sys
with open(sys.argv[1], "w") as log:
    process = subprocess.Popen(sys.argv[2:], stdout=log, stderr=subprocess.STDOUT)
    _, status, used = os.wait4(process.pid, 0)
print(status, used.ru_maxrss, used.ru_utime + used.ru_stime)
"""


def trained_runs(output_dir: Path) -> list[RunFolder]:
    """Train one run of each latent size, unless that has been done."""
    sweep = SweepFolder.under(output_dir, "trained")
    arguments = [f"latent=range(1,{NUM_LATENTS + 1})", f"output_dir={output_dir}", "sweep=trained"]
    if not sweep.report.exists():
        subprocess.run([*LAUNCH, *arguments], check=True, stdout=sys.stderr)
    return sweep.runs()


def grid(num: int) -> list[str]:
    """The grid of `num` points, which is a multiple of 200."""
    num_betas = num // (NUM_LATENTS * NUM_SEEDS)
    return [f"beta=range(1,{num_betas + 1})", f"latent=range(1,{NUM_LATENTS + 1})", f"seed=range({NUM_SEEDS})"]


def make_sweep(trained: list[RunFolder], output_dir: Path, num: int) -> SweepFolder:
    """Make the finished runs of `grid(num)`, unless they are there."""
    sweep = SweepFolder.under(output_dir, f"flood-{num}")
    if sweep.exists():
        return sweep
    sources = [(run, run.read_point(), checkpoint.available(run)[0], run.read_result() or {}) for run in trained]

    def make(place: tuple[int, int, int]) -> str:
        beta, latent, seed = place
        run, point, newest, result = sources[latent]
        point = replace(point, beta=float(beta), seed=seed)
        name = run_name(point, run_id(point, result["data_fingerprint"]))
        copy, draw = RunFolder.under(output_dir, name), random.Random(name)
        copy.create(point, run.read_launch_options(), [f"beta={beta}", f"latent={latent + 1}", f"seed={seed}"])
        shutil.copy(run.rows, copy.rows)
        shutil.copytree(run.pictures, copy.pictures, copy_function=os.link)
        checkpoint.save(copy, newest)
        metrics = {k: v * draw.uniform(0.8, 1.2) if isinstance(v, float) else v for k, v in result["metrics"].items()}
        copy.write_result(result | {"beta_nats": float(beta), "metrics": metrics})
        return name

    num_betas = num // (NUM_LATENTS * NUM_SEEDS)
    places = [(b, k, s) for b in range(1, num_betas + 1) for k in range(NUM_LATENTS) for s in range(NUM_SEEDS)]
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(make, places))
    sweep.add(names, ["beta", "latent", "seed"])
    sweep.log_launch({"at": files.now(), "command": ["launch.py", "-m", *grid(num)], "new": names})
    return sweep


def make_long_run(trained: list[RunFolder], output_dir: Path, num_rows: int) -> SweepFolder:
    """A sweep of one finished run with `num_rows` rows, of which each tenth has the validation split's metrics."""
    sweep = SweepFolder.under(output_dir, f"rows-{num_rows}")
    if sweep.exists():
        return sweep
    run = trained[-1]
    copy = RunFolder.under(output_dir, f"long-{num_rows}-{run.id}")
    copy.create(run.read_point(), run.read_launch_options(), [])
    templates, draw = run.read_rows(), random.Random(0)
    without = next(row for row in templates if "val/elbo" not in row)
    with_validation = next(row for row in templates if "val/elbo" in row)
    with copy.rows.open("w") as file:
        for n in range(1, num_rows + 1):
            row: dict[str, Any] = {**(without if n % 10 else with_validation), "step": n, "num_steps": num_rows}
            file.write(files.to_json(row | {"train/elbo": -100 - draw.random()}) + "\n")
    result = run.read_result() or {}
    size, sha256 = copy.rows.stat().st_size, hashlib.sha256(copy.rows.read_bytes()).hexdigest()
    copy.write_result(result | {"rows": {"size": size, "sha256": sha256}})
    sweep.add([copy.name], [])
    return sweep


def measured(command: list[str], log: Path) -> tuple[float, float, float]:
    """Seconds, seconds of CPU and megabytes (the largest resident set) of a command, which must succeed."""
    began = time.perf_counter()
    measure = [sys.executable, "-c", MEASURE, str(log), *command]
    status, peak_kb, cpu_s = subprocess.run(measure, check=True, capture_output=True, text=True).stdout.split()
    took_s = time.perf_counter() - began
    if status != "0":
        raise SystemExit(f"{' '.join(command)} failed: see {log}")
    return took_s, float(cpu_s), int(peak_kb) / 1000


def main() -> None:
    """Make the runs, run each command, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10_000, help="a multiple of 200")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", default="status,results,report,relaunch,rows")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    trained = trained_runs(folder / "trained")
    many, one = folder / f"{options.runs}-runs", folder / "rows"
    sweep = make_sweep(trained, many, options.runs)
    in_many = ["--output-dir", str(many)]
    commands = {
        "status": [*VAE_SWEEPS, "status", sweep.name, *in_many],
        "results": [*VAE_SWEEPS, "results", sweep.name, *in_many],
        "report": [*VAE_SWEEPS, "report", sweep.name, *in_many],
        "relaunch": [*LAUNCH, *grid(options.runs), f"output_dir={many}", f"sweep={sweep.name}"],
    }
    only = options.only.split(",")
    if "rows" in only:
        long_run = make_long_run(trained, one, options.rows)
        commands["rows"] = [*VAE_SWEEPS, "report", long_run.name, "--output-dir", str(one)]
    shown = Table("command", "s", "s of CPU", "MB")
    for name in only:
        words = f"report of {options.rows:,} rows" if name == "rows" else f"{name} of {options.runs:,} runs"
        took_s, cpu_s, peak_mb = measured(commands[name], folder / f"{name}.log")
        print(f"{words}: {took_s:.1f} s, {cpu_s:.1f} s of CPU, {peak_mb:.0f} MB", file=sys.stderr)
        shown.add_row(words, f"{took_s:.1f}", f"{cpu_s:.1f}", f"{peak_mb:.0f}")
    Console().print(shown)


if __name__ == "__main__":
    main()
