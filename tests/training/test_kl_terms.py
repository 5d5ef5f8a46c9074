"""Schedules, free bits and capacity against their formulas, literal loops, and each point alone."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.conftest import make_dataset, make_point
from tests.helpers.training import train_points
from vae_sweeps.config import trust
from vae_sweeps.config.schema import Point
from vae_sweeps.launch.packing import pack_key
from vae_sweeps.models.vae import Terms
from vae_sweeps.training import objective, own_objective

SHAPE, STEPS, SPE = (1, 8, 8), 40, 10
LATENTS, NUM_IMAGES = 4, 6
PARTS = "tests.helpers.own_parts"


def weights_of(points: Sequence[Point]) -> objective.Weights:
    return objective.weights(points, SHAPE, SPE, torch.device("cpu"), torch.float64, STEPS)


def random_terms(num_models: int) -> Terms:
    draw = torch.Generator().manual_seed(1)
    kl = torch.rand(num_models, NUM_IMAGES, LATENTS, generator=draw, dtype=torch.float64)
    kl = (kl * torch.linspace(0.2, 2, LATENTS, dtype=torch.float64)).requires_grad_()
    log_px = -torch.rand(num_models, NUM_IMAGES, generator=draw, dtype=torch.float64)
    return Terms(log_px.requires_grad_(), kl.sum(-1), kl)


def point_of(*overrides: str) -> Point:
    return make_point(f"latent={LATENTS}", *overrides)


def shares(*overrides: str) -> list[float]:
    betas = [weights_of([point_of("beta=2", *overrides)]).beta_nats_at(step)[0] for step in range(STEPS)]
    return [beta / 2 for beta in betas if beta is not None]


def test_schedules_follow_their_formulas() -> None:
    assert shares("objective.schedule=constant") == [1.0] * STEPS
    assert shares("objective.warmup_epochs=2") == pytest.approx([min(1, step / 20) for step in range(STEPS)])
    cyclical = shares("objective.schedule=cyclical", "objective.cycles=4", "objective.cycle_rise=0.5")
    # Fu et al. 2019, eq. 6 and 7, with t from 1: tau = mod(t - 1, ceil(T/M)) / (T/M); beta = tau / R up to 1
    expected = [min(1.0, (t - 1) % math.ceil(STEPS / 4) / (STEPS / 4) / 0.5) for t in range(1, STEPS + 1)]
    assert cyclical == pytest.approx(expected)


def literal_free_bits(terms: Terms, k: int, floor: float, beta: float) -> Tensor:
    """-log p + beta sum_j max(lambda, mean KL_j), averaged over the batch."""
    total = torch.zeros((), dtype=torch.float64)
    for j in range(LATENTS):
        mean = sum(terms.kl_per_latent[k, b, j] for b in range(NUM_IMAGES)) / NUM_IMAGES
        total = total + (mean if mean > floor else floor)
    return -terms.log_px[k].mean() + beta * total


def test_free_bits_equal_a_literal_loop_with_its_gradient() -> None:
    floors = [0.0, 0.3, 0.6, 5.0]
    points = [point_of(f"objective.free_bits={floor}", "beta=0.5") for floor in floors]
    assert len({pack_key(point) for point in points}) == 1
    terms = random_terms(len(points))
    losses = weights_of(points).loss(terms, 0)
    gradient = torch.autograd.grad(losses.sum(), terms.kl_per_latent, retain_graph=True)[0]
    for k, floor in enumerate(floors):
        expected = literal_free_bits(terms, k, floor, 0.5)
        torch.testing.assert_close(losses[k], expected, rtol=1e-12, atol=1e-12)
        grads = torch.autograd.grad(expected, terms.kl_per_latent, retain_graph=True, allow_unused=True)[0]
        wanted = torch.zeros_like(gradient[k]) if grads is None else grads[k]
        torch.testing.assert_close(gradient[k], wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("step", [0, 10, 20, 100])
def test_capacity_equals_a_literal_loop_with_its_gradient(step: int) -> None:
    """-log p + gamma |mean KL - C(step)|, with C growing linearly."""
    keys = ["objective.capacity_gamma=3", "objective.capacity_steps=20"]
    ends = [0.5, 30.0]
    points = [point_of(*keys, "objective.capacity_start=0.2", f"objective.capacity_end={end}") for end in ends]
    terms = random_terms(2)
    losses = weights_of([*points]).loss(terms, step)
    gradient = torch.autograd.grad(losses.sum(), terms.kl_per_latent, retain_graph=True)[0]
    for k, end in enumerate(ends):
        capacity = 0.2 + (end - 0.2) * min(1, step / 20)
        expected = -terms.log_px[k].mean() + 3 * (terms.kl[k].mean() - capacity).abs()
        torch.testing.assert_close(losses[k], expected, rtol=1e-12, atol=1e-12)
        (grads,) = torch.autograd.grad(expected, terms.kl_per_latent, retain_graph=True)
        torch.testing.assert_close(gradient[k], grads[k], rtol=1e-12, atol=1e-12)
    assert weights_of(points).beta_nats_at(step) == [None, None]


MIXED = [
    [],
    ["objective.free_bits=0.2", "latent=3"],
    ["objective.schedule=cyclical", "objective.cycles=2", "beta=2"],
    ["objective.capacity_gamma=5", "objective.capacity_end=3", "objective.capacity_steps=5"],
    ["objective.warmup_epochs=1", "objective=pixel_mean", "objective.free_bits=0.1"],
]


def test_points_with_other_objectives_share_a_pack_and_equal_those_alone(in_folders) -> None:
    common = ["arch.hidden=[6]", "latent=2", "steps=12", "batch_size=16", "precision=fp64"]
    points = [make_point(*common, *keys, f"seed={i}") for i, keys in enumerate(MIXED)]
    assert len({pack_key(point) for point in points}) == 1
    dataset, folders = make_dataset(), in_folders(len(points), "pack")
    together, _ = train_points(points, folders, dataset)
    for k, point in enumerate(points):
        own = in_folders(1, f"alone{k}-")
        alone, _ = train_points([point], own, dataset)
        for name, tensor in alone.model_state(0).items():
            torch.testing.assert_close(together.model_state(k)[name], tensor, rtol=1e-9, atol=1e-9)
        for row, other in zip(folders[k].read_rows(), own[0].read_rows(), strict=True):
            assert row.keys() == other.keys()
            for name in {"train/loss", "val/loss", "beta_nats"} & row.keys():
                assert row[name] == pytest.approx(other[name], rel=1e-9)


def test_an_own_loss_is_that_of_the_user(in_folders) -> None:
    target = f"{PARTS}.tempered"
    keys = ["objective.custom._target_=" + target, "+objective.custom.temperature=4.0"]
    ours = make_point("beta=0.25", "latent=2", "steps=6", "batch_size=16", "precision=fp64", "arch.hidden=[6]")
    common = ["latent=2", "steps=6", "batch_size=16", "precision=fp64", "arch.hidden=[6]"]
    with trust.allowing([target]):
        points = [make_point(*common, *keys, "beta=0.0625"), make_point(*common, *keys, "beta=1")]
        assert pack_key(points[0]) == pack_key(points[1]) != pack_key(ours)
        own_objective.check(points[0].objective)
        pack, _ = train_points(points, in_folders(2, "own"), make_dataset())
        weights = objective.weights(points, SHAPE, SPE, torch.device("cpu"), torch.float64)
        terms = random_terms(2)
        expected = (-terms.log_px / 4 + torch.tensor([[0.0625], [1.0]]) * terms.kl).mean(1)
        torch.testing.assert_close(weights.loss(terms, 0), expected)
        assert weights.beta_nats_at(0) == [None, None]
    # Adam does not see the factor 1/4 of the whole loss, up to its eps.
    same, _ = train_points([ours], in_folders(1, "ours"), make_dataset())
    for name, tensor in same.model_state(0).items():
        torch.testing.assert_close(pack.model_state(0)[name], tensor, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("no_loss", r"returned \[\] for terms of 2 models"), ("coupled", "depends on the terms of another"),
     ("nothing", "cannot be imported: there is no nothing")],
)  # fmt: skip
def test_a_wrong_loss_is_refused(name: str, expected: str) -> None:
    with trust.allowing([f"{PARTS}.{name}"]), pytest.raises(ValueError, match=expected):
        own_objective.check(make_point(f"objective.custom._target_={PARTS}.{name}").objective)
