"""Speed of image files: decoding compared with Pillow alone, and reading compared with the training step.

    python -m benchmarks.images

All cases are measured in turn, round after round, on drawn faces of 178x218 pixels. Figures are medians over the
rounds; ratios are computed within each round, since the machine's speed may drift.
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
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tests.helpers.drawn_faces import write_celeba
from vae_sweeps.config.compose import compose_command
from vae_sweeps.data.batches import Batches
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.decoding.image import Chunk, Transform
from vae_sweeps.data.decoding.workers import decode_all
from vae_sweeps.data.faces import celeba
from vae_sweeps.runs.row_log import RowLog
from vae_sweeps.runs.run import Run
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import cpus
from vae_sweeps.training.loop import TrainOptions, train
from vae_sweeps.training.pack import Pack, new_start
from vae_sweeps.training.rows import RowWriter

NUM_IMAGES, SIZE, CROP, BATCH_SIZE = 40_000, 64, 148, 128
ROUNDS = 3
SECONDS_PER_TURN = 2.0

# Decodes every n-th file with Pillow alone; prints the seconds that this took, without the start of the process.
PILLOW = f"""
import sys, time
from pathlib import Path
import numpy as np
from PIL import Image
paths = sorted(Path(sys.argv[1]).iterdir())[int(sys.argv[2])::int(sys.argv[3])]
began = time.perf_counter()
for path in paths:
    with Image.open(path) as image:
        side, (width, height) = {CROP}, image.size
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        np.asarray(image.resize(({SIZE}, {SIZE}), Image.Resampling.BILINEAR))
print(time.perf_counter() - began)
"""


def pillow_alone(images: Path) -> float:
    """Seconds for all images with one process per core: the mean of the processes' times, without their start."""
    arguments = [sys.executable, "-c", PILLOW, str(images)]
    parts = [[*arguments, str(i), str(cpus.usable())] for i in range(cpus.usable())]
    processes = [subprocess.Popen(part, stdout=subprocess.PIPE, text=True) for part in parts]
    return statistics.mean(float(process.communicate()[0]) for process in processes)


def load(faces: Path, cache: Path) -> Dataset:
    return celeba(
        str(faces),
        "Smiling",
        crop=CROP,
        size=SIZE,
        channels=3,
        resample="bilinear",
        pixel_range=[0, 1],
        seed=0,
        cache=str(cache),
        resident=False,
        on_bad_file="error",
    )


def not_kept(images: Path) -> float:
    """Seconds of the package's decoding, processes included, without a disk: the output goes to /dev/null."""
    names = sorted(path.name for path in images.iterdir())
    chunks = [Chunk(i, names[i : i + 256], str(images)) for i in range(0, len(names), 256)]
    began = time.perf_counter()
    for _ in decode_all(chunks, Path(os.devnull), (3, SIZE, SIZE), Transform(CROP, SIZE, 3, "bilinear")):
        pass
    return time.perf_counter() - began


def decoding(faces: Path) -> float:
    """Seconds until the array is finished, including the start of processes, writing, flushing and hashing."""
    with tempfile.TemporaryDirectory(dir=faces.parent) as cache:
        began = time.perf_counter()
        load(faces, Path(cache))
        return time.perf_counter() - began


def decoding_rounds(faces: Path, num_rounds: int) -> list[tuple[float, float, float]]:
    """Seconds of Pillow alone, of decoding without keeping, and of decoding into the cache, in each round."""
    images, rounds = faces / "img_align_celeba", []
    for _ in range(num_rounds + 1):  # the first is discarded; Pillow runs before and after, against drift
        before, decoded, ours, after = pillow_alone(images), not_kept(images), decoding(faces), pillow_alone(images)
        rounds.append(((before + after) / 2, decoded, ours))
    return rounds[1:]


def reading(dataset: Dataset) -> float:
    """Images per second when batches are read, from the first epoch on, without training on them."""
    batches = Batches(dataset, BATCH_SIZE, torch.float32)
    began, step = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS_PER_TURN:
        batches(step)
        step += 1
    return step * BATCH_SIZE / (time.perf_counter() - began)


def training(dataset: Dataset, arguments: list[str], folder: Path) -> float:
    """Images per second of one model's training loop."""
    overrides = [f"batch_size={BATCH_SIZE}", "steps=1000000", "log_every_steps=1000000", *arguments]
    point, options = compose_command(overrides)
    marks: list[float] = []

    def is_over() -> bool:
        marks.append(time.perf_counter())
        return marks[-1] - marks[0] > SECONDS_PER_TURN

    start = new_start(point, dataset.image_shape)
    rows = RowLog(RunFolder(folder), start.rows)
    run = Run(point, RunFolder(folder), start, rows)
    pack = Pack([run], dataset.image_shape, torch.device("cpu"))
    train(pack, dataset, TrainOptions(should_stop=is_over), RowWriter(pack, dataset, options.evaluation))
    rows.close()
    return BATCH_SIZE * (len(marks) - 1) / (marks[-1] - marks[0])


def main() -> None:
    logging.disable()
    console = Console(width=100)
    with tempfile.TemporaryDirectory() as place:
        faces, cache, runs = Path(place, "faces"), Path(place, "cache"), Path(place, "runs")
        runs.mkdir()
        write_celeba(faces, NUM_IMAGES)
        rounds = decoding_rounds(faces, ROUNDS)
        table = Table(title=f"Decoding 178x218 to {SIZE}x{SIZE} on {cpus.usable()} cores", title_justify="left")
        for column in ("", "images per second and core", "against Pillow alone"):
            table.add_column(column, justify="left" if not column else "right")
        for label, i in (("Pillow alone", 0), ("decoded, not kept", 1), ("into the cache", 2)):
            speed = statistics.median(NUM_IMAGES / cpus.usable() / times[i] for times in rounds)
            ratio = statistics.median(times[0] / times[i] for times in rounds)
            table.add_row(label, f"{speed:,.0f}", f"{ratio:.2f}")
        console.print(table)

        mapped = load(faces, cache).to(torch.device("cpu"))
        resident = Dataset(mapped.name, {s: x.clone() for s, x in mapped.images.items()}, None, "")
        table = Table(title=f"Reading batches of {BATCH_SIZE}", title_justify="left")
        for column in ("", "images per second", "mapped against in memory", "reading against training"):
            table.add_column(column, justify="left" if not column else "right")
        networks = {
            "mlp 12288-100-100-10": ["arch.hidden=[100,100]"],
            "conv 32, 64": ["arch=conv"],
        }
        speeds_of: dict[str, list[tuple[float, float]]] = {}
        for _ in range(ROUNDS):
            for label, arguments in networks.items():
                speeds = [training(dataset, arguments, runs) for dataset in (mapped, resident)]
                speeds_of.setdefault(label, []).append((speeds[0], speeds[1]))
            speeds_of.setdefault("reading alone", []).append((reading(mapped), reading(resident)))
        for label, pairs in speeds_of.items():
            ratio = statistics.median(from_map / from_memory for from_map, from_memory in pairs)
            alone = [a[0] / b[0] for a, b in zip(speeds_of["reading alone"], pairs, strict=True)]
            speed = statistics.median(from_map for from_map, _ in pairs)
            table.add_row(label, f"{speed:,.0f}", f"{ratio:.2f}", f"{statistics.median(alone):.1f}")
        console.print(table)


if __name__ == "__main__":
    main()
