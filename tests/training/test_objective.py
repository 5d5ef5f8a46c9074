"""The ELBO's terms compared with torch.distributions, and each convention's loss with the formula in its paper."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from tests.conftest import make_point
from vae_sweeps.config.schema import Point
from vae_sweeps.models.build import build_vae
from vae_sweeps.models.stacking import put_point
from vae_sweeps.models.vae import VAE, Posterior, Terms, elbo_terms
from vae_sweeps.training import objective
from vae_sweeps.training.noise import PosteriorNoise
from vae_sweeps.training.objective import Weights, beta_nats
from vae_sweeps.training.pack import new_start

SHAPE = (1, 4, 4)
NUM_PIXELS, NUM_IMAGES = 16, 6
POSTERIORS = ["logvar", "softplus", "square"]
SMALL = ["arch.hidden=[9]", "arch.activation=tanh", "precision=fp64"]


def drawn_vae(points: Sequence[Point]) -> VAE:
    """A pack with its points' initial weights, in float64."""
    vae = build_vae(points, SHAPE).double()
    for k, point in enumerate(points):
        put_point(vae.state_dict(), k, len(points), new_start(point, SHAPE).model)
    return vae


def random_images(num_images: int = NUM_IMAGES) -> Tensor:
    return torch.rand(num_images, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def noise_of(points: Sequence[Point]) -> Tensor:
    seeds, latents = [point.seed for point in points], [point.latent for point in points]
    return PosteriorNoise(seeds, latents, NUM_IMAGES, torch.device("cpu"), torch.float64)(0)


def weights_of(points: Sequence[Point], steps_per_epoch: int = 10) -> Weights:
    return objective.weights(points, SHAPE, steps_per_epoch, torch.device("cpu"), torch.float64)


def random_terms(num_models: int) -> Terms:
    generator = torch.Generator().manual_seed(3)
    log_px = -20 * torch.rand(num_models, NUM_IMAGES, generator=generator, dtype=torch.float64)
    kl = torch.rand(num_models, NUM_IMAGES, 10, generator=generator, dtype=torch.float64)
    return Terms(log_px, kl.sum(-1), kl)


@pytest.mark.parametrize(("mu", "sigma", "nats"), [(0.0, math.exp(-1), 0.5676676), (1.0, 1.0, 0.5), (0.0, 1.0, 0.0)])
def test_closed_form_of_the_kl(mu, sigma, nats) -> None:
    vae = drawn_vae([replace(make_point(*SMALL), latent=2)])
    scale = torch.full((1, 1, 2), sigma, dtype=torch.float64)
    kl = vae.kl_per_latent(Posterior(torch.full_like(scale, mu), scale, scale.log()))
    assert kl.flatten().tolist() == pytest.approx([nats, nats], abs=5e-8)


@pytest.mark.parametrize("kind", POSTERIORS)
def test_posterior_and_kl_equal_torchs(kind) -> None:
    """sigma from the raw output s as each kind defines it, and its KL to N(0,1)."""
    vae = drawn_vae([replace(make_point(*SMALL, f"posterior={kind}"), latent=3, seed=seed) for seed in range(2)])
    x = random_images()
    mu, raw = vae.heads(vae.encoder(x))
    sigma = {"logvar": (raw / 2).exp(), "softplus": (1 + raw.exp()).log(), "square": raw**2}[kind]
    q = vae.encode(x)
    torch.testing.assert_close(q.sigma, sigma, rtol=1e-10, atol=1e-10)
    expected = kl_divergence(Normal(mu, sigma), Normal(0.0, 1.0))
    torch.testing.assert_close(vae.kl_per_latent(q), expected, rtol=1e-10, atol=1e-10)
    leaves = list(vae.heads.parameters())
    gradients = torch.autograd.grad(vae.kl_per_latent(q).sum(), leaves, retain_graph=True)
    for gradient, exact in zip(gradients, torch.autograd.grad(expected.sum(), leaves), strict=True):
        torch.testing.assert_close(gradient, exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", POSTERIORS)
def test_padded_latents_have_no_effect(kind) -> None:
    """They add exactly 0 to the KL, and their weights in heads and decoder get exactly zero gradients."""
    points = [replace(make_point(*SMALL, f"posterior={kind}"), latent=latent, seed=latent) for latent in (2, 5)]
    vae = drawn_vae(points)
    x, eps = random_images(), noise_of(points)
    anything = torch.full((2, NUM_IMAGES, 5), 0.3, dtype=torch.float64)
    for q in (vae.encode(x), Posterior(anything, anything, anything.log())):
        assert (vae.kl_per_latent(q)[0, :, 2:] == 0).all()
        assert (vae.kl_per_latent(q)[1] != 0).all()
    assert (vae.encode(x).rsample(eps)[0, :, 2:] == 0).all()
    terms = elbo_terms(vae, x, eps)
    weights_of(points).loss(terms, step=0).sum().backward()
    first_map = vae.decoder.get_submodule("maps.0").get_parameter("weight")  # [K,L,F]
    for padding, own in (
        (vae.heads.weight.grad[0, ..., 2:], vae.heads.weight.grad[0, ..., :2]),  # type: ignore[index]
        (vae.heads.bias.grad[0, ..., 2:], vae.heads.bias.grad[0, ..., :2]),  # type: ignore[index]
        (first_map.grad[0, 2:], first_map.grad[0, :2]),  # type: ignore[index]
    ):
        assert padding.numel()
        assert (padding == 0).all()
        assert (own != 0).all()
    alone = elbo_terms(drawn_vae(points[:1]), x, noise_of(points[:1]))
    torch.testing.assert_close(terms.kl[:1], alone.kl, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(terms.log_px[:1], alone.log_px, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_elbo_equals_one_written_with_torch_distributions(likelihood) -> None:
    """The 16-9-3-9-16 network is written out in matrix products."""
    points = [replace(make_point(*SMALL, f"likelihood={likelihood}"), latent=3, seed=seed) for seed in range(2)]
    vae = drawn_vae(points)
    x, eps = random_images().round(), noise_of(points)
    terms = elbo_terms(vae, x, eps)
    flat, weight = x.reshape(NUM_IMAGES, NUM_PIXELS), vae.state_dict()
    for k in range(len(points)):
        hidden = torch.tanh(flat @ weight["encoder.layers.maps.0.weight"][k] + weight["encoder.layers.maps.0.bias"][k])
        mu, logvar = (hidden @ weight["heads.weight"][k, :, i] + weight["heads.bias"][k, :, i] for i in (0, 1))
        q = Independent(Normal(mu, (logvar / 2).exp()), 1)
        z = mu + (logvar / 2).exp() * eps[k]
        hidden = torch.tanh(z @ weight["decoder.maps.0.weight"][k] + weight["decoder.maps.0.bias"][k])
        params = hidden @ weight["decoder.maps.1.weight"][k] + weight["decoder.maps.1.bias"][k]
        p = Bernoulli(logits=params) if likelihood == "bernoulli" else Normal(params, 0.1)
        prior = Independent(Normal(torch.zeros(3).double(), torch.ones(3).double()), 1)
        elbo = p.log_prob(flat).sum(-1) - kl_divergence(q, prior)
        torch.testing.assert_close((terms.log_px - terms.kl)[k], elbo, rtol=1e-9, atol=1e-9)


def literal_loss(point: Point, params: Tensor, q: Posterior, x: Tensor) -> Tensor:
    """The loss as its source states it, for one model and x [B,D], averaged over the batch."""
    kl = 0.5 * (q.mu**2 + q.sigma**2 - 1 - 2 * q.sigma.log())  # [B,L]
    if point.objective.error == "squared":
        error = (x - params) ** 2
    elif "sigma" in point.likelihood:
        variance = point.likelihood["sigma"] ** 2
        error = (x - params) ** 2 / (2 * variance) + 0.5 * math.log(2 * math.pi * variance)
    else:
        error = F.binary_cross_entropy_with_logits(params, x, reduction="none")
    error = error.mean(1) if point.objective.pixels == "mean" else error.sum(1)
    kl = kl.mean(1) if point.objective.latents == "mean" else kl.sum(1)
    return (error + point.beta * kl).mean()


CONVENTIONS = [
    ("likelihood=bernoulli", "objective=elbo"),
    ("likelihood=gaussian", "objective=elbo"),
    ("likelihood=bernoulli", "objective=pixel_mean"),
    ("likelihood=gaussian", "objective=pixel_mean"),
    ("likelihood=gaussian", "objective=mse"),
    ("likelihood=bernoulli", "objective.pixels=mean"),
    ("likelihood=bernoulli", "objective.latents=mean"),
    ("likelihood=gaussian", "objective.error=squared"),
    ("likelihood=gaussian", "objective=mse", "objective.latents=mean"),
]


def convention_point(convention: Sequence[str]) -> Point:
    return make_point(*SMALL, *convention, "beta=0.3", "latent=3")


def summed_over_batch(point: Point) -> Point:
    return replace(point, objective=replace(point.objective, batch="sum"))


@pytest.mark.parametrize("batch", ["mean", "sum"])
@pytest.mark.parametrize("convention", CONVENTIONS, ids=" ".join)
def test_loss_equals_the_formula_of_its_source(convention, batch) -> None:
    point = convention_point(convention)
    if batch == "sum":
        point = summed_over_batch(point)
    points = [point, replace(point, seed=1)]
    if "sigma" in point.likelihood:
        points[1] = replace(points[1], likelihood={**point.likelihood, "sigma": 0.7})
    vae = drawn_vae(points)
    x, eps = random_images(), noise_of(points)
    q = vae.encode(x)
    params = vae.decode(q.rsample(eps))
    losses = weights_of(points).loss(elbo_terms(vae, x, eps), step=0)
    for k, point in enumerate(points):
        literal = literal_loss(point, params[k], Posterior(q.mu[k], q.sigma[k], q.log_sigma[k]), x.flatten(1))
        factor = NUM_IMAGES if batch == "sum" else 1
        assert losses[k].item() == pytest.approx(factor * literal.item(), rel=1e-9)


@pytest.mark.parametrize("convention", CONVENTIONS, ids=" ".join)
def test_every_loss_is_a_multiple_of_the_beta_elbo(convention) -> None:
    """Gradient of loss = scale * gradient of (-log p(x|z) + beta_nats KL), for all weights."""
    point = convention_point(convention)
    vae = drawn_vae([point])
    weights = weights_of([point])
    terms = elbo_terms(vae, random_images(), noise_of([point]))
    loss = weights.loss(terms, step=0).sum()
    beta = beta_nats(point, SHAPE)
    assert beta is not None
    in_nats = (-terms.log_px + beta * terms.kl).mean(1).sum()
    leaves = list(vae.parameters())
    gradients = torch.autograd.grad(loss, leaves, retain_graph=True)
    for gradient, exact in zip(gradients, torch.autograd.grad(in_nats, leaves), strict=True):
        torch.testing.assert_close(gradient, weights.scale.item() * exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("overrides", "shape", "nats"),
    [
        (["beta=0.7"], (1, 28, 28), 0.7),
        (["beta=0.7", "objective.batch=sum"], (1, 28, 28), 0.7),
        (["objective=pixel_mean", "beta=0.01", "latent=10"], (1, 28, 28), 0.784),
        (["objective.pixels=mean", "beta=0.01", "latent=10"], (1, 28, 28), 7.84),
        (["objective.latents=mean", "beta=0.5", "latent=10"], (1, 28, 28), 0.05),
        (["objective=mse", "likelihood=gaussian", "likelihood.sigma=1", "beta=0.00025"], (3, 64, 64), 1.536),
        (["objective=mse", "likelihood=gaussian", f"likelihood.sigma={1.536**0.5}", "beta=2.5e-4"], (3, 64, 64), 1.0),
        (["objective.error=squared", "likelihood=gaussian", "likelihood.sigma=0.5", "beta=1"], (1, 28, 28), 2.0),
        (["objective=mse", "likelihood=gaussian", "beta=0"], (1, 28, 28), 0.0),
    ],
)
def test_beta_in_nats(overrides, shape, nats) -> None:
    assert beta_nats(make_point(*overrides), shape) == pytest.approx(nats, rel=1e-12)


@pytest.mark.parametrize("convention", CONVENTIONS, ids=" ".join)
def test_sum_over_the_batch_is_its_size_times_the_mean(convention) -> None:
    point, terms = convention_point(convention), random_terms(1)
    summed = weights_of([summed_over_batch(point)]).loss(terms, step=0)
    torch.testing.assert_close(summed, NUM_IMAGES * weights_of([point]).loss(terms, step=0), rtol=1e-12, atol=0)


def test_with_beta_zero_the_loss_is_the_negative_log_likelihood() -> None:
    terms = random_terms(1)
    loss = weights_of([make_point("beta=0")]).loss(terms, step=5)
    torch.testing.assert_close(loss, -terms.log_px.mean(1), rtol=1e-12, atol=0)


def with_warmup(beta: float, epochs: float) -> Point:
    point = make_point()
    return replace(point, beta=beta, objective=replace(point.objective, warmup_epochs=epochs))


def test_warmup_grows_beta_linearly_for_each_point_of_a_pack() -> None:
    """Over 4, 0 and 1.5 epochs of 10 steps; recovered from loss = -log p + beta(step) KL."""
    betas, epochs = [2.0, 0.5, 1.0], [4, 0, 1.5]
    points = [with_warmup(b, e) for b, e in zip(betas, epochs, strict=True)]
    terms, weights = random_terms(3), weights_of(points, steps_per_epoch=10)
    for step, shares in {
        0: [0.0, 1.0, 0.0],
        3: [0.075, 1.0, 0.2],
        20: [0.5, 1.0, 1.0],
        40: [1.0, 1.0, 1.0],
        10**6: [1.0, 1.0, 1.0],
    }.items():
        beta = (weights.loss(terms, step) + terms.log_px.mean(1)) / terms.kl.mean(1)
        assert beta.tolist() == pytest.approx([b * s for b, s in zip(betas, shares, strict=True)], abs=1e-12)


def test_each_point_of_a_pack_has_its_own_convention() -> None:
    common = ["likelihood=gaussian", "beta=0.3"]
    points = [make_point(*common, f"objective={name}") for name in ("elbo", "pixel_mean", "mse")]
    terms, losses = random_terms(3), weights_of(points).loss(random_terms(3), step=0)
    for k, point in enumerate(points):
        own = Terms(*(term[k : k + 1] for term in (terms.log_px, terms.kl, terms.kl_per_latent)))
        torch.testing.assert_close(losses[k : k + 1], weights_of([point]).loss(own, step=0), rtol=1e-12, atol=0)
