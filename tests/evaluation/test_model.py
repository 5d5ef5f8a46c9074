"""A run as a model for notebooks."""

import pickle
from pathlib import Path

import pytest
import torch

import vae_sweeps
from tests.conftest import make_options, make_point
from vae_sweeps.config import trust
from vae_sweeps.data.load import load_dataset
from vae_sweeps.evaluation.model import Model, from_state
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.training.pack import new_start

SHAPE = (1, 28, 28)
LINEAR = make_point("arch.hidden=[]", "likelihood=gaussian", "latent=3")


def untrained() -> Model:
    return from_state(LINEAR, new_start(LINEAR, SHAPE).model, SHAPE)


def test_labels_are_those_of_the_images() -> None:
    model, dataset = untrained(), load_dataset(LINEAR.data)
    assert dataset.labels is not None
    for split in ("train", "val", "test"):
        labels = model.labels(split)
        assert labels is not None
        assert len(labels) == len(model.images(split))
        assert torch.equal(labels, dataset.labels[split])
    with pytest.raises(ValueError, match=r"^split=all: must be one of train, val, test"):
        model.labels("all")


def test_the_mixtures_samples_have_the_mean_of_the_codes() -> None:
    """EM leaves a mixture's mean at the codes' mean, and a linear decoder takes means to means."""
    model, num = untrained(), 4000
    samples = model.sample_mixture(num, num_components=3)
    mu, _ = model.encode(model.images("train"))
    reconstructed = model.decode(mu)
    standard_error = reconstructed.std(0) / num**0.5
    assert ((samples.mean(0) - reconstructed.mean(0)).abs() < 5 * standard_error + 1e-6).all()
    assert torch.equal(model.sample_mixture(5, 3, seed=1), model.sample_mixture(5, 3, seed=1))
    assert not torch.equal(model.sample_mixture(5, 3, seed=1), model.sample_mixture(5, 3, seed=2))


def test_runs_and_sweeps_are_found_by_name_in_an_output_folder(tmp_path: Path) -> None:
    folder = RunFolder.under(tmp_path, "mnist5k-mlp-0123456789ab")
    folder.create(LINEAR, make_options(), [])
    start = new_start(LINEAR, SHAPE)
    checkpoint.save(folder, start)
    SweepFolder.under(tmp_path, "lonely").add([folder.name], ["beta"])
    assert vae_sweeps.results("lonely", tmp_path)["run"].tolist() == [folder.name]
    eps = torch.ones(1, 3)
    drawn = untrained().decode(eps)
    assert torch.equal(vae_sweeps.load(folder.name, tmp_path).decode(eps), drawn)
    assert torch.equal(vae_sweeps.load(folder.path).decode(eps), drawn)
    with pytest.raises(ValueError, match=r"^run=other: no run folder"):
        vae_sweeps.load("other", tmp_path)
    with pytest.raises(ValueError, match=r"^other: no such sweep or folder; .*lonely"):
        vae_sweeps.results("other", tmp_path)


@pytest.mark.parametrize("kind", ["linear", "own"])
def test_a_model_survives_a_pickle_and_a_move(kind: str) -> None:
    parts = "tests.helpers.own_parts"
    keys = ["arch=custom", f"arch.encoder._target_={parts}.Encoder", f"arch.decoder._target_={parts}.Decoder"]
    point = LINEAR if kind == "linear" else make_point(*keys, "latent=3")
    with trust.allowing(trust.targets_of_points([point])):
        model = from_state(point, new_start(point, SHAPE).model, SHAPE)
    x = torch.rand(4, *SHAPE)
    expected = model.encode(x), model.sample(2), model.elbo(x)
    for other in (pickle.loads(pickle.dumps(model)), model.to("cpu")):
        assert other.vae is not model.vae
        assert other.device == torch.device("cpu")
        torch.testing.assert_close((other.encode(x), other.sample(2), other.elbo(x)), expected, rtol=0, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_on_a_gpu_takes_inputs_from_the_cpu() -> None:
    model, x = untrained(), torch.rand(4, *SHAPE)
    moved = model.to("cuda")
    assert moved.encode(x)[0].device.type == "cuda"
    torch.testing.assert_close(moved.elbo(x).cpu(), model.elbo(x), rtol=1e-4, atol=1e-3)
