"""Speed of a training step: packs of K models compared with one model, and with the matrix products alone.

    python -m benchmarks.training

All cases are measured in turn, round after round, in one process. The figures are medians over the rounds of ms per
step and point; ratios are computed within each round, since the machine's speed may drift.
"""

import itertools
import os

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as launch.py does, for all cases

import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from vae_sweeps.config.compose import compose_command
from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.config.schema import Point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.runs.row_log import RowLog
from vae_sweeps.runs.run import Run
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import machine
from vae_sweeps.training.loop import TrainOptions, train
from vae_sweeps.training.pack import Pack, new_start
from vae_sweeps.training.rows import RowWriter

NUM_IMAGES, NUM_PIXELS = 3500, 784
NETWORKS = [("784-100-100-10", [100, 100], 10, 64), ("784-500-500-20", [500, 500], 20, 150)]
ROUNDS = 7
SECONDS_PER_TURN = 0.35


def digits() -> Dataset:
    """Random bytes in the shape of digits: the arithmetic is the same."""
    generator = torch.Generator().manual_seed(0)
    images = {
        split: torch.randint(0, 256, (size, 1, 28, 28), dtype=torch.uint8, generator=generator)
        for split, size in (("train", NUM_IMAGES), ("val", 1), ("test", 1))
    }
    return Dataset("random", images, None, "")


def tight_loop(hidden: list[int], latent: int, batch_size: int, images: Tensor, *, fused: bool) -> Callable[[], None]:
    """One model in plain PyTorch modules, written for speed; returns the function of one training step."""

    def mlp(widths: list[int], *, last_active: bool) -> nn.Sequential:
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(itertools.pairwise(widths)):
            layers.append(nn.Linear(a, b))
            if last_active or i < len(widths) - 2:
                layers.append(nn.ReLU())
        return nn.Sequential(*layers)

    encoder = mlp([NUM_PIXELS, *hidden], last_active=True)
    heads = nn.Linear(hidden[-1], 2 * latent)
    decoder = mlp([latent, *hidden[::-1], NUM_PIXELS], last_active=False)
    parameters = [*encoder.parameters(), *heads.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-3, fused=fused)
    flat = images.flatten(1)
    order, position = torch.randperm(len(flat)), 0

    def step() -> None:
        nonlocal order, position
        if position + batch_size > len(flat):
            order, position = torch.randperm(len(flat)), 0
        x = flat[order[position : position + batch_size]].float().div_(255)
        position += batch_size
        mu, logvar = heads(encoder(x)).chunk(2, -1)
        z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
        nll = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="none").sum(-1)
        kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(-1)
        loss = (nll + kl).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def bare_products(hidden: list[int], latent: int, batch_size: int) -> Callable[[], None]:
    """Only the matrix products of one model's step, forward and backward: a lower bound for any program."""
    widths = [NUM_PIXELS, *hidden, 2 * latent], [latent, *hidden[::-1], NUM_PIXELS]
    pairs = [pair for chain in widths for pair in itertools.pairwise(chain)]
    tensors = [(torch.randn(batch_size, a), torch.randn(b, a), torch.randn(batch_size, b)) for a, b in pairs]

    def step() -> None:
        for i, (x, w, g) in enumerate(tensors):
            torch.mm(x, w.T)
            torch.mm(g.T, x)
            if i:
                torch.mm(g, w)

    return step


def time_step(step: Callable[[], None]) -> float:
    """Median ms of a call during one turn."""
    times = []
    end = time.perf_counter() + SECONDS_PER_TURN
    while time.perf_counter() < end:
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times[len(times) // 10 :])


def time_pack(points: list[Point], evaluation: Evaluation, dataset: Dataset, folder: RunFolder) -> float:
    """Median ms per step and point of the package's training loop during one turn."""
    marks: list[float] = []

    def is_over() -> bool:
        marks.append(time.perf_counter())
        return marks[-1] - marks[0] > SECONDS_PER_TURN

    starts = [new_start(point, dataset.image_shape) for point in points]
    rows = RowLog(folder, starts[0].rows)  # of all points, which nobody reads
    pack = Pack(
        [Run(*of, rows) for of in zip(points, repeat(folder), starts)], dataset.image_shape, torch.device("cpu")
    )
    train(pack, dataset, TrainOptions(should_stop=is_over), RowWriter(pack, dataset, evaluation))
    rows.close()
    steps = [b - a for a, b in itertools.pairwise(marks)]
    return 1e3 * statistics.median(steps[len(steps) // 10 :]) / len(points)


def with_rates(points: list[Point], num_rates: int) -> list[Point]:
    """The points with `num_rates` learning rates, in runs of equal ones as launches order them."""
    rates = [1e-3 / (1 + k * num_rates // len(points)) for k in range(len(points))]
    return [replace(point, optim=replace(point.optim, lr=rate)) for point, rate in zip(points, rates, strict=True)]


def main() -> None:
    logging.disable()
    machine.prepare()
    dataset, console = digits(), Console(width=100)
    for name, hidden, latent, batch_size in NETWORKS:
        overrides = [f"arch.hidden={hidden}", f"latent={latent}", f"batch_size={batch_size}"]
        overrides += ["steps=1000000", "log_every_steps=1000000"]
        points, options = zip(*(compose_command([*overrides, f"seed={seed}"]) for seed in range(9)), strict=True)
        with machine.memory_kept(torch.device("cpu")):
            measure(name, list(points), options[0].evaluation, dataset, console)


def measure(name: str, points: list[Point], evaluation: Evaluation, dataset: Dataset, console: Console) -> None:
    """Time all cases on one network, in turn, and print the table."""
    first = points[0]
    hidden, latent, batch_size = first.arch["hidden"], first.latent, first.batch_size
    images = dataset.images["train"]
    loops = {
        "bare matrix products": bare_products(hidden, latent, batch_size),
        "tight loop": tight_loop(hidden, latent, batch_size, images, fused=False),
        "tight loop, fused Adam": tight_loop(hidden, latent, batch_size, images, fused=True),
    }
    rounds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        for _ in range(ROUNDS + 1):
            for label, step in loops.items():
                rounds.setdefault(label, []).append(time_step(step))
            for k in (1, 3, 9):
                rounds.setdefault(f"pack of {k}", []).append(time_pack(points[:k], evaluation, dataset, folder))
            for n in (3, 9):
                several = with_rates(points, n)
                rounds.setdefault(f"pack of 9, {n} rates", []).append(time_pack(several, evaluation, dataset, folder))
    table = Table(title=f"{name}, batch {batch_size}, {torch.get_num_threads()} threads", title_justify="left")
    table.add_column("")
    for column in (
        "ms per step\nand point",
        "speed against\ntight loop",
        "against tight\nloop, fused Adam",
        "against bare\nproducts",
        "against\npack of 9",
    ):
        table.add_column(column, justify="right")
    for label, times in rounds.items():
        ratios = [
            f"{statistics.median(b / a for a, b in zip(times[1:], rounds[base][1:], strict=True)):.2f}"
            for base in ("tight loop", "tight loop, fused Adam", "bare matrix products", "pack of 9")
        ]
        table.add_row(label, f"{statistics.median(times[1:]):.3f}", *ratios)
    console.print(table)


if __name__ == "__main__":
    main()
