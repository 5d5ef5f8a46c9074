"""A user's own networks on a device: the numbers of the CPU, and in a pack those that they have alone."""

from collections.abc import Iterator

import pytest
import torch

from tests.conftest import make_dataset, make_point
from tests.gpu.test_numbers import NoiseOfCPU, tensors_of
from tests.helpers import own_parts
from tests.helpers.training import train_points
from tests.training.test_packs import relative_difference
from vae_sweeps.config import trust
from vae_sweeps.config.schema import Point
from vae_sweeps.training import steps

pytestmark = pytest.mark.slow

PARTS = "tests.helpers.own_parts"
NETWORKS = ["arch=custom", f"arch.encoder._target_={PARTS}.Encoder", f"arch.decoder._target_={PARTS}.Decoder"]
LIKELIHOOD = ["likelihood=custom", f"likelihood._target_={PARTS}.StudentT"]


@pytest.fixture(autouse=True)
def _trusted() -> Iterator[None]:
    names = [name for name in vars(own_parts) if not name.startswith("_")]
    with trust.allowing(f"{PARTS}.{name}" for name in names):
        yield


def points_of(*overrides: str) -> list[Point]:
    common = ["latent=2", "steps=6", "batch_size=16", "precision=fp64"]
    return [make_point(*NETWORKS, *common, *overrides, f"seed={seed}") for seed in range(2)]


@pytest.mark.parametrize("num_models", [1, 2])
def test_they_compute_as_on_the_cpu(num_models, device, in_folders, monkeypatch) -> None:
    monkeypatch.setattr(steps, "PosteriorNoise", NoiseOfCPU)
    points, dataset = points_of(*LIKELIHOOD)[:num_models], make_dataset()
    here, there = in_folders(num_models, "cpu"), in_folders(num_models, "device")
    train_points(points, here, dataset)
    train_points(points, there, dataset, device=device)
    for on_cpu, on_device in zip(here, there, strict=True):
        found = tensors_of(on_device)
        for name, tensor in tensors_of(on_cpu).items():
            assert relative_difference(found[name], tensor) < 1e-9, name


@pytest.mark.parametrize("overrides", [(), ("+arch.encoder.dropout=0.5",)])
def test_they_train_in_a_pack_as_alone(overrides, device, in_folders) -> None:
    """Dropout draws from the generators of the device."""
    points, dataset = points_of(*overrides), make_dataset()
    packed = in_folders(2, "packed")
    train_points(points, packed, dataset, device=device)
    for k, point in enumerate(points):
        (alone,) = in_folders(1, f"solo{k}-")
        train_points([point], [alone], dataset, device=device)
        together = tensors_of(packed[k])
        for name, tensor in tensors_of(alone).items():
            assert relative_difference(together[name], tensor) < 1e-9, name
    assert not torch.equal(*(tensors_of(folder)["heads.weight"] for folder in packed))
