"""What showing 64 points on W&B costs a training step, at the default rate of rows and pictures.

    python -m benchmarks.tracking

The same pack trains in turns without W&B, offline, and online against the tests' stand-in server, which runs on this
machine too: with few cores its share of the work is counted here, and with a real server it is not. The figures are
medians over the rounds of mean ms per step and point; ratios are taken round by round, since machines drift.
"""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as launch.py does

import logging
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from vae_sweeps.config.compose import compose_point
from vae_sweeps.config.schema import Point
from vae_sweeps.data.load import load_dataset
from vae_sweeps.launch.record import drawing
from vae_sweeps.models.build import build_vae
from vae_sweeps.runs import checkpoint, run_folder
from vae_sweeps.system import machine
from vae_sweeps.tracker.link import Link
from vae_sweeps.training.loop import train
from vae_sweeps.training.pack import new_start

NUM_POINTS, ROUNDS, EPOCHS_PER_TURN = 64, 4, 2
MODES = ("none", "offline", "online")


def start_server() -> "subprocess.Popen[str]":
    """The stand-in server in a process of its own; puts what its clients need into the environment."""
    server = subprocess.Popen([sys.executable, "-m", "tests.helpers.wandb_server"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    server.stdout.readline()
    for line in server.stdout:
        name, _, value = line.strip().partition("=")
        os.environ[name] = value
        if name == "WANDB_SILENT":
            break
    return server


def turn(points: list[Point], folders: list[Path], link: Link, draws: bool) -> float:
    """Go on for some epochs; returns mean ms per step and point, from the first step's end to the last one's."""
    dataset = load_dataset(points[0].data)
    found = [checkpoint.available(folder) for folder in folders]
    starts = [own[0] if own else new_start(p, dataset.image_shape) for own, p in zip(found, points, strict=True)]
    vae = build_vae(points, dataset.image_shape)
    num_steps = EPOCHS_PER_TURN * -(-dataset.num_images("train") // points[0].batch_size)
    marks: list[float] = []

    def is_over() -> bool:
        marks.append(time.perf_counter())
        return len(marks) == num_steps

    train(
        vae,
        points,
        folders,
        dataset,
        starts,
        device=torch.device("cpu"),
        checkpoint_every_s=points[0].checkpoint_every_s,
        should_stop=is_over,
        saved=lambda step: link.saved(folders, step),
        draw=drawing(vae, points, folders, starts, dataset) if draws else lambda k, epoch: None,
    )
    return 1e3 * (marks[-1] - marks[0]) / (num_steps - 1) / len(points)


def main() -> None:
    logging.disable()
    machine.prepare()
    server, console = start_server(), Console(width=100)
    # A checkpoint in each turn, so that rows are sent in it: every 5 s is twelve times as often as by default.
    points = [compose_point([f"seed={seed}", "checkpoint_every_s=5"]) for seed in range(NUM_POINTS)]
    rounds: dict[str, list[float]] = {mode: [] for mode in MODES}
    try:
        with tempfile.TemporaryDirectory() as root:
            folders = {mode: [Path(root) / mode / f"run-{k:012d}" for k in range(NUM_POINTS)] for mode in MODES}
            links = {mode: Link(replace(points[0].tracker, mode=mode, project=mode)) for mode in MODES}
            for mode in MODES:
                for folder, point in zip(folders[mode], points, strict=True):
                    run_folder.create_run(folder, point, [])
                links[mode].begin({folder: {} for folder in folders[mode]})
            for number in range(ROUNDS + 1):
                for mode in MODES:
                    with machine.memory_kept(torch.device("cpu")):
                        took = turn(points, folders[mode], links[mode], draws=mode != "none")
                    if number:  # in the first one wandb starts and opens 64 runs
                        rounds[mode].append(took)
            for link in links.values():
                link.close()
    finally:
        server.terminate()
    table = Table(title=f"{NUM_POINTS} points, {torch.get_num_threads()} threads", title_justify="left")
    for column in ("W&B", "ms per step\nand point", "against none"):
        table.add_column(column, justify="right" if column != "W&B" else "left")
    for mode in MODES:
        ratios = [own / none for own, none in zip(rounds[mode], rounds["none"], strict=True)]
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        table.add_row(mode, f"{statistics.median(rounds[mode]):.3f}", spread)
    console.print(table)


if __name__ == "__main__":
    main()
