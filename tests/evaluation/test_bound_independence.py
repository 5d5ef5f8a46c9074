"""The bound and the ELBO depend neither on batch size nor on the pack, and their memory not on the samples."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from tests.conftest import ROOT, make_dataset, make_point
from tests.helpers.bounds import bound, terms
from vae_sweeps.config.schema import Point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.models.build import build_vae
from vae_sweeps.models.stacking import put_point
from vae_sweeps.models.vae import VAE
from vae_sweeps.training.pack import new_start


@pytest.fixture(scope="module")
def images() -> Dataset:
    return make_dataset((1, 4, 4), (4, 4, 600))


def put_together(points: Sequence[Point], shape: tuple[int, int, int]) -> VAE:
    vae = build_vae(points, shape)
    for k, point in enumerate(points):
        put_point(vae.state_dict(), k, len(points), new_start(point, shape).model)
    return vae


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_neither_the_bound_nor_the_elbo_depends_on_the_batch_size(images, likelihood) -> None:
    points = [make_point("arch.hidden=[9]", f"likelihood={likelihood}", f"latent={latent}") for latent in (2, 5)]
    vae = put_together(points, images.image_shape)
    expected = bound(vae, images, 5, batch_size=600, dtype=torch.float32)
    expected_terms = terms(vae, images, batch_size=600, dtype=torch.float32)
    for batch_size in (7, 64, 512):
        found = bound(vae, images, 5, batch_size=batch_size, dtype=torch.float32)
        assert found.bound.tolist() == pytest.approx(expected.bound.tolist(), rel=1e-6)
        assert found.standard_error.tolist() == pytest.approx(expected.standard_error.tolist(), rel=1e-4)
        found = terms(vae, images, batch_size=batch_size, dtype=torch.float32)
        assert found.elbo.tolist() == pytest.approx(expected_terms.elbo.tolist(), rel=1e-6)


@pytest.mark.parametrize("arch", [["arch.hidden=[9]"], ["arch=conv", "arch.channels=[3,4]", "arch.batch_norm=true"]])
def test_packed_equals_solo(images, arch) -> None:
    point = make_point(*arch, "precision=fp64")
    points = [replace(point, latent=latent, seed=seed) for seed, latent in enumerate((2, 5, 3))]
    vae = put_together(points, images.image_shape).double()
    packed, packed_terms = bound(vae, images, 4), terms(vae, images)
    for k, point in enumerate(points):
        vae = put_together([point], images.image_shape).double()
        alone, alone_terms = bound(vae, images, 4), terms(vae, images)
        assert packed.bound[k].item() == pytest.approx(alone.bound.item(), rel=1e-9)
        assert packed.standard_error[k].item() == pytest.approx(alone.standard_error.item(), rel=1e-9)
        assert packed_terms.elbo[k].item() == pytest.approx(alone_terms.elbo.item(), rel=1e-9)
        latents = slice(0, point.latent)
        assert torch.allclose(packed_terms.kl_per_latent[k, latents], alone_terms.kl_per_latent[0], rtol=1e-9)
        assert torch.allclose(packed_terms.mu_variance[k, latents], alone_terms.mu_variance[0], rtol=1e-9)
        assert not packed_terms.kl_per_latent[k, point.latent :].any()
        assert not packed_terms.mu_variance[k, point.latent :].any()


def test_the_noise_is_a_function_of_the_seed(images) -> None:
    vae = put_together([make_point("arch.hidden=[9]", "latent=3", "precision=fp64")], images.image_shape).double()
    one, again, other = (bound(vae, images, 3, seed=seed).bound.item() for seed in (0, 0, 1))
    assert one == again != other
    one, again, other = (terms(vae, images, seed=seed).elbo.item() for seed in (0, 0, 1))
    assert one == again != other


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_uses_running_statistics_and_leaves_model_and_mode_as_they_were(images, training) -> None:
    arch = ["arch=conv", "arch.channels=[3,4]", "arch.batch_norm=true", "latent=2", "precision=fp64"]
    vae = put_together([make_point(*arch)], images.image_shape).double().train(training)
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    values = [bound(vae, images, 2, batch_size=size).bound.item() for size in (600, 11)]
    values += [terms(vae, images, batch_size=size).elbo.item() for size in (600, 11)]
    assert values[::2] == pytest.approx(values[1::2], rel=1e-9)
    assert vae.training is training
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())


# A pack of 8 on 784 pixels: one sample's decoded images of a block are 13 MB, those of 40 samples 500 MB.
PEAK = """
import resource
import torch
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.likelihoods import Bernoulli
from vae_sweeps.evaluation.metrics.elbo import importance_bound
from vae_sweeps.models import mlp
from vae_sweeps.models import VAE

torch.set_num_threads(1)
networks = mlp(num_models=8, image_shape=(1, 28, 28), latent=2, hidden=[], activation="relu")
vae = VAE(networks, Bernoulli(8), [2] * 8, "logvar")
images = torch.zeros(512, 1, 28, 28, dtype=torch.uint8)
dataset = Dataset("zeros", {"train": images, "test": images}, None, "")
for num_samples in (2, 40):
    importance_bound(vae, dataset, "test", num_samples=num_samples, seed=0, batch_size=512, dtype=torch.float32)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is kilobytes on Linux alone")
def test_peak_memory_does_not_grow_with_the_samples() -> None:
    """The peak of a process can only rise: it must not by more than 50 MB between 2 samples and 40."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    few, many = map(int, done.stdout.split())
    assert many - few < 50_000
