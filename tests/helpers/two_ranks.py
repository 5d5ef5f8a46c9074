"""A rank of a group that trains one pack on one device.

    python -m tests.helpers.two_ranks RANK SIZE BACKEND DEVICE FOLDER

The jobs of a sweep give each rank a GPU of its own; two ranks on one GPU need gloo, since NCCL refuses them.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from tests.conftest import make_dataset, make_point
from tests.helpers.training import runs_of
from vae_sweeps.config.schema import Point
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.training.loop import NoObserver, TrainOptions, train
from vae_sweeps.training.pack import Pack, new_start

CONV = ["arch=conv", "arch.channels=[4,6]", "arch.batch_norm=true", "arch.kernel=3"]


def points() -> list[Point]:
    """Batch norm and clipped gradients need the whole batch."""
    point = make_point(*CONV, "precision=fp64", "steps=12", "batch_size=16", "latent=3", "optim.clip_norm=1")
    return [replace(point, seed=seed) for seed in range(2)]


def main() -> None:
    number, size, backend, name, place = sys.argv[1:]
    device, dataset = torch.device(name), make_dataset()
    dist.init_process_group(backend, init_method=f"file://{place}/store", rank=int(number), world_size=int(size))
    folders = [RunFolder(Path(place, f"{number}-{k}")) for k in range(2)]
    for folder in folders:
        folder.path.mkdir()
    starts = [new_start(point, dataset.image_shape) for point in points()]
    pack = Pack(runs_of(points(), folders, dataset, starts), dataset.image_shape, device)
    train(pack, dataset.to(device), TrainOptions(), NoObserver())
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
