"""How much W&B slows down the training step of 64 points, at the default rate of rows and pictures.

    python -m benchmarks.tracking

The same pack trains in turn without W&B, offline, and online with the tests' stand-in server. That server runs on the
same machine, so with few cores its work slows down training, unlike a real server's. The figures are medians over the
rounds of mean ms per step and point; ratios are computed within each round, since the machine's speed may drift.
"""

import os

from vae_sweeps.system import before_torch

before_torch.prepare()

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

from vae_sweeps.config.compose import compose_command
from vae_sweeps.config.launch_options import LaunchOptions
from vae_sweeps.config.schema import Point
from vae_sweeps.data.load import load_dataset
from vae_sweeps.launch.draw import PictureDrawer
from vae_sweeps.launch.observe import JobObserver
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.row_log import RowLog
from vae_sweeps.runs.run import Run
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import machine
from vae_sweeps.tracker.link import Link
from vae_sweeps.training.loop import Observer, TrainOptions, train
from vae_sweeps.training.pack import Pack, new_start
from vae_sweeps.training.rows import RowWriter

NUM_POINTS, ROUNDS, EPOCHS_PER_TURN = 64, 4, 2
MODES = ("none", "offline", "online")


def start_server() -> "subprocess.Popen[str]":
    """Start the stand-in server in a separate process, and set the environment variables that its clients need."""
    server = subprocess.Popen([sys.executable, "-m", "tests.helpers.wandb_server"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    server.stdout.readline()
    for line in server.stdout:
        name, _, value = line.strip().partition("=")
        os.environ[name] = value
        if name == "WANDB_SILENT":
            break
    return server


def turn(
    points: list[Point], folders: list[RunFolder], options: LaunchOptions, link: Link | None, device: torch.device
) -> float:
    """Continue for some epochs; returns mean ms per step and point, from the end of the first step to the last's.

    Pictures are drawn only if there is a link.
    """
    dataset = load_dataset(points[0].data).to(device)
    saved = [checkpoint.available(folder) for folder in folders]
    starts = [c[0] if c else new_start(p, dataset.image_shape) for c, p in zip(saved, points, strict=True)]
    rows = [RowLog(folder, start.rows) for folder, start in zip(folders, starts, strict=True)]
    pack = Pack(list(map(Run, points, folders, starts, rows)), dataset.image_shape, device)
    num_steps = EPOCHS_PER_TURN * -(-dataset.num_images("train") // points[0].batch_size)
    marks: list[float] = []

    def is_over() -> bool:
        marks.append(time.perf_counter())
        return len(marks) == num_steps

    observer: Observer = RowWriter(pack, dataset, options.evaluation)
    if link is not None:
        drawer = PictureDrawer()
        observer = JobObserver(pack, dataset, options.evaluation, drawer=drawer, link=link, show=lambda _: None)
    train(pack, dataset, TrainOptions(options.checkpoint_every_s, is_over), observer)
    for log in rows:
        log.close()
    return 1e3 * (marks[-1] - marks[0]) / (num_steps - 1) / len(points)


def measure(num_points: int, num_rounds: int, device: str = "cpu") -> dict[str, list[float]]:
    """ms per step and point in each mode and round."""
    where = torch.device(device)
    server = start_server()
    # Save a checkpoint in each turn, so that rows are sent during it: 5 s is a twelfth of the default interval.
    points = [compose_command([f"seed={seed}"])[0] for seed in range(num_points)]
    _, options = compose_command(["checkpoint_every_s=5"])
    rounds: dict[str, list[float]] = {mode: [] for mode in MODES}
    try:
        with tempfile.TemporaryDirectory() as root:
            names = [f"run-{k:012d}" for k in range(num_points)]
            folders = {mode: [RunFolder.under(Path(root) / mode, name) for name in names] for mode in MODES}
            trackers = {mode: replace(options.tracker, mode=mode, project=mode) for mode in MODES}
            links = {mode: Link(trackers[mode]) for mode in MODES if mode != "none"}
            for mode in MODES:
                for folder, point in zip(folders[mode], points, strict=True):
                    folder.create(point, replace(options, tracker=trackers[mode]), [])
            for mode, link in links.items():
                link.begin({folder: {} for folder in folders[mode]})
            for number in range(num_rounds + 1):
                for mode in MODES:
                    with machine.memory_kept(where):
                        took = turn(points, folders[mode], options, links.get(mode), where)
                    if number:  # in the first round wandb starts and opens the runs
                        rounds[mode].append(took)
            for link in links.values():
                link.close()
    finally:
        server.terminate()
    return rounds


def main() -> None:
    logging.disable()
    machine.prepare()
    rounds = measure(NUM_POINTS, ROUNDS)
    table = Table(title=f"{NUM_POINTS} points, {torch.get_num_threads()} threads", title_justify="left")
    for column in ("W&B", "ms per step\nand point", "against none"):
        table.add_column(column, justify="right" if column != "W&B" else "left")
    for mode in MODES:
        ratios = [ms / base for ms, base in zip(rounds[mode], rounds["none"], strict=True)]
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        table.add_row(mode, f"{statistics.median(rounds[mode]):.3f}", spread)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
