"""An evaluation on a device gives the columns of one on the CPU, and models can be used there."""

from dataclasses import replace

import pytest
import torch

import vae_sweeps
from tests.conftest import make_options, make_point
from tests.evaluation.test_evaluation import RANDOM, how
from tests.helpers.small_digits import part_of_digits
from tests.helpers.training import CPU, train_points
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.evaluate import evaluate_parts
from vae_sweeps.evaluation.features.base import build_features
from vae_sweeps.evaluation.model import from_state
from vae_sweeps.evaluation.reference import Reference
from vae_sweeps.evaluation.settings import settings
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.training.pack import new_start

pytestmark = pytest.mark.slow

POINT = make_point("arch.hidden=[16]", "latent=3", "steps=60", "batch_size=20", "log_every_steps=30")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return part_of_digits()


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that the CPU has trained."""
    folder = RunFolder(tmp_path_factory.mktemp("output") / "run")
    folder.path.mkdir()
    folder.create(POINT, make_options(), [])
    train_points([POINT], [folder], digits)
    return folder


@pytest.mark.parametrize("binarize", ["none", "dynamic"])
def test_the_columns_are_those_of_the_cpu(binarize, digits, run, device, is_gpu) -> None:
    found = {}
    data, asked = replace(digits, binarize=binarize), how(RANDOM)
    for where in (CPU, device):
        saved = checkpoint.available(run)[0]
        reference = Reference(data, asked, build_features(asked.features, data), where)
        model = from_state(POINT, saved.model, saved.image_shape)
        found[where], _ = evaluate_parts(model, reference, "run", settings(asked))
    assert found[device]["missing"] == found[CPU]["missing"] == {}
    columns = found[CPU]["metrics"]
    assert found[device]["metrics"].keys() == columns.keys()
    for name, value in columns.items():
        # The samples of a bound are added in another order than on the CPU.
        relative, absolute = (1e-5, 1e-6) if is_gpu else (1e-12, 1e-12)
        assert found[device]["metrics"][name] == pytest.approx(value, rel=relative, abs=absolute), name


def test_a_loaded_model_computes_where_it_was_asked_to(run, device) -> None:
    here, there = vae_sweeps.load(run.path), vae_sweeps.load(run.path, device=device)
    assert there.device == device
    x = torch.rand(5, *here.image_shape, generator=torch.Generator().manual_seed(0))
    for on_cpu, on_device in zip(here.encode(x), there.encode(x), strict=True):
        assert on_device.device == device
        torch.testing.assert_close(on_device.cpu(), on_cpu, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(there.sample(4).cpu(), here.sample(4), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(there.elbo(x).cpu(), here.elbo(x), rtol=1e-4, atol=1e-3)
    assert there.to("cpu").device == CPU


@pytest.mark.gpu
def test_a_model_in_a_notebook_computes_in_single_precision() -> None:
    """By default PyTorch rounds the factors of convolutions on a GPU to 10 bits."""
    point = make_point("arch=conv", "arch.channels=[32,64]", "latent=3")
    alone = from_state(point, new_start(point, (1, 28, 28)).model, (1, 28, 28))
    torch.backends.cudnn.allow_tf32 = True  # as in a new process
    x = torch.rand(50, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    mu, _ = alone.encode(x)
    found, _ = alone.to("cuda").encode(x)
    torch.testing.assert_close(found.cpu(), mu, rtol=1e-5, atol=1e-6)
    assert torch.backends.cudnn.allow_tf32
