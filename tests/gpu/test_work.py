"""What a GPU has to do: as many operations for a pack as for one model, without waiting for it between rows."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tests.conftest import make_dataset, make_point
from tests.helpers import stand_in_device
from tests.helpers.small_jobs import slow
from tests.helpers.training import train_points
from tests.training.test_packs import ARCHS
from vae_sweeps.config.schema import Point

DATASET = make_dataset(sizes=(3000, 24, 24))
# All steps use the same draw of noise, and none ends an epoch.
FEW, MANY = 10, 40
QUICK = ["optimal sigma"]
NETWORKS = {
    **{name: ARCHS[name] for name in ("mlp", "conv", "conv_bn")},
    "free bits": ["objective.free_bits=0.1"],
    "clipped": ["optim.clip_norm=1"],
    "warm-up": ["objective.warmup_epochs=1"],
    "sgd": ["optim=sgd"],
    "optimal sigma": ["likelihood=gaussian", "likelihood.sigma=optimal"],
}
PARAMETERS = [*QUICK, *slow(*(name for name in NETWORKS if name not in QUICK))]


def points_of(name: str, num_models: int, steps: int) -> list[Point]:
    point = make_point(*NETWORKS[name], "batch_size=16", "latent=3", f"steps={steps}", "log_every_steps=1000")
    return [replace(point, seed=seed) for seed in range(num_models)]


def extra(count: Callable[[int], int]) -> float:
    """What each further step adds to `count` of a training of so many steps."""
    return (count(MANY) - count(FEW)) / (MANY - FEW)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_step_of_a_pack_starts_as_many_operations_as_that_of_one_model(name, stand_in, in_folders) -> None:
    per_step = {}

    def started(num_models: int, steps: int) -> int:
        folders = in_folders(num_models, f"{num_models}-{steps}-")
        with stand_in_device.watched() as watched:
            train_points(points_of(name, num_models, steps), folders, DATASET, device=stand_in)
        return len(watched.started)

    for num_models in (2, 5):
        per_step[num_models] = extra(lambda steps, n=num_models: started(n, steps))
    assert per_step[5] == per_step[2]


@pytest.mark.parametrize("name", PARAMETERS)
def test_no_step_between_rows_waits(name, device, is_gpu, in_folders) -> None:
    def waits(steps: int) -> int:
        folders = in_folders(2, f"{steps}-")
        points = points_of(name, 2, steps)
        if not is_gpu:
            with stand_in_device.watched() as watched:
                train_points(points, folders, DATASET, device=device)
            return len(watched.waits)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                train_points(points, folders, DATASET, device=device)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing" in str(warning.message) for warning in found)

    assert extra(waits) == 0
