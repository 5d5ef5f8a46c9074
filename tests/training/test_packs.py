"""A point's numbers do not depend on its pack."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from tests.conftest import make_dataset, make_point
from tests.helpers.training import train_points
from vae_sweeps.config.schema import Point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.metrics.elbo import evaluate_split
from vae_sweeps.models.build import build_vae
from vae_sweeps.models.precision import DTYPES
from vae_sweeps.models.stacking import put_point
from vae_sweeps.runs.checkpoint import available
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.training.pack import new_start

ARCHS = {
    "linear": ["arch=mlp", "arch.hidden=[]"],
    "mlp": ["arch=mlp", "arch.hidden=[20,12]"],
    "conv": ["arch=conv", "arch.channels=[4,6]", "arch.kernel=4"],
    "conv5": ["arch=conv", "arch.channels=[3,5]", "arch.kernel=5", "arch.activation=tanh"],
    "pooled": ["arch=conv", "arch.channels=[4,6]", "arch.kernel=3", "arch.downsampling=max_pool", "arch.dense=[9,7]"],
    "from_point": [
        *("arch=conv", "arch.channels=[4,6]", "arch.start=transposed", "arch.last_kernel=3", "arch.init=xavier"),
    ],
    "last_conv": [
        *("arch=conv", "arch.channels=[4,6]", "arch.kernel=3", "arch.batch_norm=true", "arch.start=linear"),
        *("arch.last_conv=3", "arch.activation=leaky_relu", "arch.negative_slope=0.2", "arch.init=he"),
    ],
    "decoder_channels": [
        *("arch=conv", "arch.channels=[6,4]", "arch.kernel=3", "arch.batch_norm=true", "arch.start=linear"),
        *("arch.decoder_channels=[4,3,5]", "arch.last_conv=3"),
    ],
    "conv_bn": ["arch=conv", "arch.channels=[4,6]", "arch.batch_norm=true", "arch.kernel=3"],
}
LIKELIHOODS = {
    "bernoulli": ["likelihood=bernoulli"],
    "gaussian": ["likelihood=gaussian", "likelihood.sigma=0.3"],
    "learned": ["likelihood=gaussian", "likelihood.sigma=learned"],
    "optimal": ["likelihood=gaussian", "likelihood.sigma=optimal"],
}
# beta, latent and seed differ; two of the three latent spaces are padded.
MIXED = [
    {"beta": 0.0, "latent": 2, "seed": 0},
    {"beta": 0.5, "latent": 5, "seed": 1},
    {"beta": 2.0, "latent": 3, "seed": 2},
]


def train_together(
    points: Sequence[Point], dataset: Dataset, folders: Sequence[RunFolder]
) -> list[dict[str, torch.Tensor]]:
    """Each point's final weights after training `points` as one pack."""
    _, outcomes = train_points(points, folders, dataset)
    assert [outcome.status for outcome in outcomes] == ["done"] * len(points)
    return [available(folder)[0].model for folder in folders]


def relative_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / (b.double().norm() + 1e-300))


CASES = [(arch, likelihood, "logvar") for arch in ARCHS for likelihood in LIKELIHOODS]
CASES += [(arch, "bernoulli", kind) for arch in ("mlp", "conv_bn") for kind in ("softplus", "square", "sigma")]


@pytest.mark.parametrize(("arch", "likelihood", "posterior"), CASES)
def test_packed_equals_solo_in_float64(arch, likelihood, posterior, in_folders) -> None:
    common = ["precision=fp64", "steps=15", "batch_size=16", "log_every_steps=7", f"posterior={posterior}"]
    overrides = [*ARCHS[arch], *LIKELIHOODS[likelihood], *common]
    points = [replace(make_point(*overrides), **own) for own in MIXED]
    dataset = make_dataset()
    packed_folders = in_folders(3, "packed")
    packed = train_together(points, dataset, packed_folders)
    for k, point in enumerate(points):
        (folder,) = in_folders(1, f"solo{k}-")
        (alone,) = train_together([point], dataset, [folder])
        assert alone.keys() == packed[k].keys()
        for name in alone:
            assert relative_difference(packed[k][name], alone[name]) < 1e-9, name
        rows = zip(packed_folders[k].read_rows(), folder.read_rows(), strict=True)
        for row_packed, row_alone in rows:
            for name in row_alone.keys() - {"time_s", "core_s", "images_per_s"}:
                assert row_packed[name] == pytest.approx(row_alone[name], rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("arch", ARCHS)
def test_packed_equals_solo_in_float32(arch, likelihood, in_folders) -> None:
    overrides = [*ARCHS[arch], *LIKELIHOODS[likelihood], "steps=15", "batch_size=16"]
    points = [replace(make_point(*overrides), **own) for own in MIXED]
    dataset = make_dataset()
    packed = train_together(points, dataset, in_folders(3, "packed"))
    for k, point in enumerate(points):
        (alone,) = train_together([point], dataset, in_folders(1, f"solo{k}-"))
        for name in alone:
            assert relative_difference(packed[k][name], alone[name]) < 1e-4, name


def test_each_point_of_a_pack_has_its_own_sigma(in_folders) -> None:
    common = ["likelihood=gaussian", "arch.hidden=[9]", "precision=fp64", "steps=20", "latent=3"]
    points = [make_point(*common, f"likelihood.sigma={sigma}") for sigma in (0.05, 0.3, 1)]
    dataset = make_dataset()
    packed = train_together(points, dataset, in_folders(3, "packed"))
    for k, point in enumerate(points):
        (alone,) = train_together([point], dataset, in_folders(1, f"solo{k}-"))
        for name in alone:
            assert relative_difference(packed[k][name], alone[name]) < 1e-9


@pytest.mark.parametrize("objective", ["elbo", "pixel_mean", "mse"])
def test_conventions_and_warmup_mix_in_a_pack(objective, in_folders) -> None:
    common = ["likelihood=gaussian", "arch.hidden=[9]", "precision=fp64", "steps=20", "latent=3", "batch_size=16"]
    other = make_point(*common, "objective.warmup_epochs=2", "seed=3")
    point = make_point(*common, f"objective={objective}", "objective.warmup_epochs=3.5")
    dataset = make_dataset()
    packed = train_together([other, point], dataset, in_folders(2, "packed"))[1]
    (alone,) = train_together([point], dataset, in_folders(1, "solo"))
    for name in alone:
        assert relative_difference(packed[name], alone[name]) < 1e-9


def test_gradients_are_clipped_for_each_point_separately(in_folders) -> None:
    """A neighbour with a huge gradient must not shrink a point's step."""
    common = ["arch.hidden=[9]", "precision=fp64", "steps=20", "latent=3", "optim.clip_norm=0.5"]
    point, wild = make_point(*common), make_point(*common, "beta=1e6", "seed=1")
    dataset = make_dataset()
    packed = train_together([point, wild], dataset, in_folders(2, "packed"))[0]
    (alone,) = train_together([point], dataset, in_folders(1, "solo"))
    for name in alone:
        assert relative_difference(packed[name], alone[name]) < 1e-9


@pytest.mark.parametrize("arch", ["mlp", "conv", "conv_bn"])
def test_a_diverged_point_does_not_affect_its_neighbours(arch, in_folders) -> None:
    """One point starts from a NaN; the others end where they end without it."""
    overrides = [*ARCHS[arch], "precision=fp64", "steps=30", "batch_size=16", "latent=3", "log_every_steps=10"]
    points = [make_point(*overrides, f"seed={seed}") for seed in range(3)]
    dataset = make_dataset()
    starts = [new_start(point, dataset.image_shape) for point in points]
    name = next(iter(starts[1].model))
    starts[1].model[name][:] = torch.nan
    folders = in_folders(3, "packed")
    _, outcomes = train_points(points, folders, dataset, starts)
    assert [(o.status, o.step) for o in outcomes] == [("done", 30), ("diverged", 1), ("done", 30)]
    assert folders[1].read_rows() == []
    for k in (0, 2):
        (alone,) = train_together([points[k]], dataset, in_folders(1, f"solo{k}-"))
        for key, tensor in available(folders[k])[0].model.items():
            assert relative_difference(tensor, alone[key]) < 1e-9


def test_the_step_of_divergence_is_exact(in_folders) -> None:
    """A step size of 1e30 throws the weights out of range: the second step is the first that is not finite."""
    point = make_point("arch.hidden=[9]", "steps=20", "batch_size=16", "optim.lr=1e30", "log_every_steps=20")
    dataset = make_dataset()
    _, (outcome,) = train_points([point], in_folders(1), dataset)
    # The first update throws the weights to 1e30, so the second forward pass overflows.
    assert (outcome.status, outcome.step) == ("diverged", 2)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "optimal"])
def test_evaluation_does_not_depend_on_pack_or_batch_size(likelihood) -> None:
    overrides = ["arch.hidden=[9]", *LIKELIHOODS[likelihood], "precision=fp64"]
    points = [replace(make_point(*overrides), **own) for own in MIXED]
    dataset = make_dataset(sizes=(16, 16, 700))
    terms = {}
    for name, members in {"packed": points, **{str(k): [p] for k, p in enumerate(points)}}.items():
        vae = build_vae(members, dataset.image_shape).to(DTYPES["fp64"])
        state = vae.state_dict()
        for k, point in enumerate(members):
            put_point(state, k, len(members), new_start(point, dataset.image_shape).model)
        for size in (512, 100, 7):
            terms[name, size] = evaluate_split(vae, dataset, "test", seed=0, batch_size=size, dtype=DTYPES["fp64"])
    for k in range(3):
        for size in (512, 100, 7):
            for field in ("log_px", "kl"):
                reference = getattr(terms["packed", 512], field)[k].item()
                assert getattr(terms[str(k), size], field)[0].item() == pytest.approx(reference, rel=1e-12)
