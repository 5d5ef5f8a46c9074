"""Training on a device gives the numbers of the CPU, in packs as alone."""

from dataclasses import replace

import pytest
import torch

from tests.conftest import make_dataset, make_point
from tests.helpers import stand_in_device
from tests.helpers.small_jobs import stop_after
from tests.helpers.training import CPU, train_points
from tests.training.test_packs import ARCHS, LIKELIHOODS, MIXED, relative_difference
from vae_sweeps.config.schema import Point
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.training import steps
from vae_sweeps.training.loop import TrainOptions
from vae_sweeps.training.noise import PosteriorNoise

CASES = [(arch, likelihood) for arch in ARCHS for likelihood in ("bernoulli", "learned")]
OTHERS = {name: [f"likelihood={name}"] for name in ("continuous_bernoulli", "discretized_logistic", "laplace")}
CASES += [("mlp", likelihood) for likelihood in ("gaussian", "optimal", *OTHERS)]
QUICK = [("mlp", "optimal")]
CLOCK = {"time_s", "core_s", "gpu_s", "images_per_s"}
RATES = (1e-3, 3e-3, 1e-3)


class NoiseOfCPU(PosteriorNoise):
    """The noise that a CPU draws: a GPU's own generator draws other numbers from the same seed."""

    def __init__(self, seeds, latents, batch_size, device, dtype) -> None:
        super().__init__(seeds, latents, batch_size, CPU, dtype)
        self.device = device

    def __call__(self, step: int) -> torch.Tensor:
        return super().__call__(step).to(self.device)


def points_of(arch: str, likelihood: str, *overrides: str) -> list[Point]:
    """Three points whose beta, latent size, seed and learning rate differ."""
    common = ["precision=fp64", "steps=15", "batch_size=16", "log_every_steps=7"]
    point = make_point(*ARCHS[arch], *(LIKELIHOODS | OTHERS)[likelihood], *common, *overrides)
    own = zip(MIXED, RATES, strict=True)
    return [replace(point, **mixed, optim=replace(point.optim, lr=rate)) for mixed, rate in own]


def tensors_of(folder: RunFolder) -> dict[str, torch.Tensor]:
    saved = checkpoint.available(folder)[0]
    moments = {f"{kind} {name}": tensor for kind, by in saved.moments.items() for name, tensor in by.items()}
    return saved.model | moments


def rows_of(folder: RunFolder) -> list[dict]:
    return [{name: value for name, value in row.items() if name not in CLOCK} for row in folder.read_rows()]


@pytest.mark.parametrize(
    ("arch", "likelihood"), [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES]
)
def test_weights_moments_and_rows_are_those_of_the_cpu(
    arch, likelihood, device, is_gpu, in_folders, monkeypatch
) -> None:
    monkeypatch.setattr(steps, "PosteriorNoise", NoiseOfCPU)
    points, dataset = points_of(arch, likelihood, "optim.clip_norm=1"), make_dataset()
    here, there = in_folders(3, "cpu"), in_folders(3, "device")
    train_points(points, here, dataset)
    train_points(points, there, dataset, device=device)
    for on_cpu, on_device in zip(here, there, strict=True):
        expected, found = tensors_of(on_cpu), tensors_of(on_device)
        assert expected.keys() == found.keys()
        for name, tensor in expected.items():
            assert relative_difference(found[name], tensor) <= (1e-9 if is_gpu else 0), name
        rows, others = rows_of(on_cpu), rows_of(on_device)
        assert [row.keys() for row in rows] == [row.keys() for row in others]
        for row, other in zip(rows, others, strict=True):
            for name, value in row.items():
                assert other[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("fp64", 1e-9), ("fp32", 1e-4)])
@pytest.mark.parametrize(
    ("device", "arch", "likelihood"),
    [
        *(pytest.param("cuda", arch, "bernoulli", marks=pytest.mark.gpu) for arch in ARCHS),
        pytest.param("cuda", "mlp", "optimal", marks=pytest.mark.gpu),
        (stand_in_device.NAME, "mlp", "optimal"),  # its numbers are those of the CPU, whose packs have tests
    ],
    indirect=["device"],
)
def test_packed_equals_solo(arch, likelihood, precision, tolerance, device, in_folders) -> None:
    points, dataset = points_of(arch, likelihood, f"precision={precision}"), make_dataset()
    packed = in_folders(3, "packed")
    train_points(points, packed, dataset, device=device)
    for k, point in enumerate(points):
        (alone,) = in_folders(1, f"solo{k}-")
        train_points([point], [alone], dataset, device=device)
        together = checkpoint.available(packed[k])[0].model
        for name, tensor in checkpoint.available(alone)[0].model.items():
            assert relative_difference(together[name], tensor) < tolerance, name


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["mlp", "conv", "conv_bn"])
def test_resumed_equals_uninterrupted_to_the_bit(arch, device, in_folders) -> None:
    points, dataset = points_of(arch, "bernoulli", "precision=fp32"), make_dataset()
    whole, parts = in_folders(3, "whole"), in_folders(3, "parts")
    train_points(points, whole, dataset, device=device)
    train_points(points, parts, dataset, device=device, options=TrainOptions(should_stop=stop_after(8)))
    train_points(points, parts, dataset, device=device)
    for uninterrupted, resumed in zip(whole, parts, strict=True):
        expected, found = tensors_of(uninterrupted), tensors_of(resumed)
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        assert rows_of(resumed) == rows_of(uninterrupted)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 1e-3), ("bf16", 1e-2)])
@pytest.mark.parametrize("arch", ["mlp", "conv"])
def test_fewer_bits_change_the_elbo_little(arch, precision, tolerance, in_folders) -> None:
    """tf32 keeps 10 bits of the factors of a product and bf16 7, so its terms have errors of 5e-4 and 4e-3."""
    dataset, cuda, elbos = make_dataset(), torch.device("cuda"), {}
    for name in ("fp32", precision):
        (folder,) = in_folders(1, name)
        point = make_point(*ARCHS[arch], f"precision={name}", "steps=40", "batch_size=16", "latent=5")
        train_points([point], [folder], dataset, device=cuda)
        elbos[name] = folder.read_rows()[-1]["val/elbo"]
    assert elbos[precision] != elbos["fp32"]
    assert elbos[precision] == pytest.approx(elbos["fp32"], rel=tolerance)
