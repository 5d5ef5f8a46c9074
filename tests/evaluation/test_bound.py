"""The importance-weighted bound against exact log p(x): probabilistic PCA in closed form, Bernoulli by quadrature.

Sources: Burda et al. 2015 (the bound); Tipping & Bishop 1999 (pPCA).
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import multivariate_normal
from torch import Tensor

from tests.conftest import make_dataset, make_point
from tests.helpers.bounds import as_test_split, bound, terms
from vae_sweeps.data.dataset import to_model
from vae_sweeps.evaluation.metrics.elbo import (
    bits_per_dim,
    jackknife_variance,
)
from vae_sweeps.models.build import build_vae
from vae_sweeps.models.vae import VAE
from vae_sweeps.training.pack import new_start

LATENT = 3
LINEAR = ["arch.hidden=[]", "likelihood=gaussian", f"latent={LATENT}", "precision=fp64"]
SCALES = [2.0, 1.6, 1.2, 0.6, 0.5, 0.4, 0.3]


class Ppca:
    """Maximum-likelihood pPCA of some vectors, without rotation (Tipping & Bishop 1999, eq. 7 and 8)."""

    def __init__(self, x: Tensor) -> None:
        self.mean = x.mean(0)
        values, vectors = torch.linalg.eigh((x - self.mean).T @ (x - self.mean) / len(x))
        values, vectors = values.flip(0), vectors.flip(1)
        self.kept, self.discarded = values[:LATENT], values[LATENT:]
        self.variance = self.discarded.mean()
        self.u = vectors[:, :LATENT]
        self.weight = self.u * (self.kept - self.variance).sqrt()
        self.posterior_variance = self.variance / self.kept

    def log_px(self, x: Tensor) -> np.ndarray:
        """log N(x; mean, W W^T + sigma^2 I) of each vector."""
        covariance = self.weight @ self.weight.T + self.variance * torch.eye(len(self.mean), dtype=x.dtype)
        return multivariate_normal(self.mean.numpy(), covariance.numpy()).logpdf(x.numpy())

    def vae(self, *, wider: float = 1.0, shift: float = 0.0) -> VAE:
        """A linear VAE with these weights; its posterior is exact unless it is made `wider` or moved by `shift`."""
        vae = build_vae(
            [make_point(*LINEAR, f"likelihood.sigma={self.variance.sqrt().item()}")], (1, 1, len(self.mean))
        )
        vae = vae.double()
        to_mu = (self.kept - self.variance).sqrt() / self.kept * self.u  # [D,L]
        weights = {
            "decoder.maps.0.weight": self.weight.T[None],
            "decoder.maps.0.bias": self.mean[None, None],
            "heads.weight": torch.stack([to_mu, torch.zeros_like(to_mu)], 1)[None],
            "heads.bias": torch.stack([shift - self.mean @ to_mu, (wider**2 * self.posterior_variance).log()], 0)[
                None, None
            ],
        }
        vae.load_state_dict(weights)
        return vae

    def gap(self, *, wider: float, shift: float) -> float:
        """KL(q(z|x) || p(z|x)) of such a posterior, which is log p(x) - ELBO for every x."""
        kl = 0.5 * (wider**2 + shift**2 / self.posterior_variance - 1) - math.log(wider)
        return kl.sum().item()


@pytest.fixture(scope="module")
def vectors() -> Tensor:
    """600 correlated vectors: the last 88 are three times as large, so that their weight in a mean shows."""
    generator = torch.Generator().manual_seed(0)
    size = len(SCALES)
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    x = torch.randn(600, size, generator=generator, dtype=torch.float64) * torch.tensor(SCALES) @ basis.T + 0.5
    x[512:] *= 3
    return x


@pytest.fixture(scope="module")
def ppca(vectors: Tensor) -> Ppca:
    return Ppca(vectors)


# Exact posterior


def test_ppcas_likelihood_is_its_closed_form(vectors, ppca) -> None:
    """-1/2 [D ln 2 pi + sum ln lambda + (D - k) ln sigma^2 + D] (Tipping & Bishop 1999): the reference is right."""
    num_pixels = len(SCALES)
    log_det = ppca.kept.log().sum() + len(ppca.discarded) * ppca.variance.log()
    exact = -0.5 * (num_pixels * math.log(2 * math.pi) + log_det + num_pixels)
    assert ppca.log_px(vectors).mean() == pytest.approx(exact.item(), abs=1e-9)


@pytest.mark.parametrize("num_samples", [1, 10, 100])
def test_with_the_exact_posterior_the_bound_is_log_px_for_any_number_of_samples(vectors, ppca, num_samples) -> None:
    """log w = log p(x) whatever z, so it has no variance."""
    found = bound(ppca.vae(), as_test_split(vectors), num_samples)
    assert found.bound.item() == pytest.approx(ppca.log_px(vectors).mean(), abs=1e-6)
    if num_samples == 1:
        assert found.standard_error.isnan().all()
    else:
        assert found.standard_error.item() == pytest.approx(0, abs=1e-6)


def test_with_the_exact_posterior_the_elbo_is_log_px(vectors, ppca) -> None:
    """The KL's expectation over z is exact and log p(x|z) is sampled: their difference is log p(x) on average."""
    dataset, vae = as_test_split(vectors), ppca.vae()
    draws = torch.stack([terms(vae, dataset, seed=seed).elbo for seed in range(100)])
    error = (draws.std(0) / 10).item()
    assert 0 < error < 0.01
    assert abs(draws.mean().item() - ppca.log_px(vectors).mean()) < 4 * error
    found = terms(vae, dataset)
    # KL_i = 1/2 ln(lambda_i / sigma^2), Var(mu_i) = 1 - sigma^2 / lambda_i
    kl_per_latent = 0.5 * (ppca.kept / ppca.variance).log()
    assert found.kl_per_latent[0].tolist() == pytest.approx(kl_per_latent.tolist(), abs=1e-9)
    assert found.kl.item() == pytest.approx(kl_per_latent.sum().item(), abs=1e-9)
    assert found.mu_variance[0].tolist() == pytest.approx((1 - ppca.posterior_variance).tolist(), abs=1e-9)


@pytest.mark.parametrize("batch_size", [600, 512, 100, 88, 1])
def test_every_image_counts_once_in_a_ragged_last_batch(vectors, ppca, batch_size) -> None:
    """600 images are a block of 512 and one of 88, whose images are the most unlikely by far."""
    per_image = ppca.log_px(vectors)
    assert per_image[:512].mean() > per_image[512:].mean() + 5
    found = bound(ppca.vae(), as_test_split(vectors), 2, batch_size=batch_size)
    assert found.bound.item() == pytest.approx(per_image.mean(), abs=1e-6)
    mu = (vectors - ppca.mean) @ ppca.u * (ppca.kept - ppca.variance).sqrt() / ppca.kept
    per_image_kl = 0.5 * (mu.square() + ppca.posterior_variance - 1 - ppca.posterior_variance.log()).sum(1)
    found = terms(ppca.vae(), as_test_split(vectors), batch_size=batch_size)
    assert found.kl.item() == pytest.approx(per_image_kl.mean().item(), abs=1e-9)


# Wrong posterior


def test_with_a_wrong_posterior_the_bound_rises_with_the_samples_to_log_px(vectors, ppca) -> None:
    """E L_S does not decrease in S, and tends to log p(x) from below (Burda et al. 2015, theorem 1)."""
    vae, dataset = ppca.vae(wider=1.5, shift=0.4), as_test_split(vectors)
    exact, gap = ppca.log_px(vectors).mean(), ppca.gap(wider=1.5, shift=0.4)
    means, errors = [], []
    for num_samples in (1, 5, 50, 500):
        draws = torch.stack([bound(vae, dataset, num_samples, seed=seed).bound for seed in range(12)])
        means.append(draws.mean().item())
        errors.append(draws.std().item() / 12**0.5)
    for i in range(3):
        assert means[i + 1] - means[i] > 4 * math.hypot(errors[i], errors[i + 1])
    assert abs(exact - means[0] - gap) < 4 * errors[0]
    assert exact - means[-1] < 0.01 * gap
    assert all(mean < exact + 4 * error for mean, error in zip(means, errors, strict=True))


def test_one_sample_gives_the_elbo_on_average(vectors, ppca) -> None:
    """Both are estimates of log p(x) - KL(q(z|x) || p(z|x))."""
    vae, dataset = ppca.vae(wider=1.5, shift=0.3), as_test_split(vectors)
    expected = ppca.log_px(vectors).mean() - ppca.gap(wider=1.5, shift=0.3)
    elbos = torch.stack([terms(vae, dataset, seed=seed).elbo for seed in range(60)])
    bounds = torch.stack([bound(vae, dataset, 1, seed=seed).bound for seed in range(60)])
    for draws in (elbos, bounds):
        error = draws.std().item() / 60**0.5
        assert 0 < error < 0.02
        assert abs(draws.mean().item() - expected) < 4 * error


def test_the_reported_standard_error_is_the_spread_over_seeds(vectors, ppca) -> None:
    vae, dataset = ppca.vae(wider=1.2, shift=0.1), as_test_split(vectors[:60])
    draws = [bound(vae, dataset, 30, seed=seed) for seed in range(200)]
    spread = torch.stack([draw.bound for draw in draws]).std().item()
    reported = torch.stack([draw.standard_error for draw in draws]).square().mean().sqrt().item()
    assert reported == pytest.approx(spread, rel=0.2)


def test_a_jackknife_is_that_of_its_definition() -> None:
    """(G - 1) / G sum over g of (theta_-g - their mean)^2, where theta is log mean w (Efron & Stein 1981)."""
    log_w = 3 * torch.randn(13, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # [S,K,B]
    groups = [[s for s in range(13) if s % 5 == g] for g in range(5)]
    without = torch.stack([log_w[[s for s in range(13) if s not in group]].exp().mean(0).log() for group in groups])
    expected = 4 / 5 * (without - without.mean(0)).square().sum(0)
    found = jackknife_variance(torch.stack([log_w[group].logsumexp(0) for group in groups]), 13)
    torch.testing.assert_close(found, expected)
    assert jackknife_variance(log_w[:1], 1).isnan().all()


def test_the_effective_number_of_samples_is_that_of_the_weights(vectors, ppca) -> None:
    """All of them for the exact posterior, whose weights are equal; near 1 for one that is far too wide."""
    dataset = as_test_split(vectors[:20])
    exact, wide = bound(ppca.vae(), dataset, 40), bound(ppca.vae(wider=100), dataset, 40)
    assert exact.effective_samples.item() == pytest.approx(40, abs=1e-6)
    assert exact.dominated.item() == 0
    assert 1 <= wide.effective_samples.item() < 1.2
    assert wide.dominated.item() > 0.9
    assert wide.bound.item() < exact.bound.item() - 10
    once = bound(ppca.vae(), dataset, 1)
    assert once.effective_samples.item() == once.dominated.item() == 1


def test_weights_say_nothing_of_where_a_posterior_has_no_samples(vectors, ppca) -> None:
    """Far too narrow, its bound is 100 nats too low, and neither the error nor the effective number shows it."""
    dataset = as_test_split(vectors[:20])
    found = bound(ppca.vae(wider=1e-3, shift=3.0), dataset, 40)
    assert found.bound.item() < ppca.log_px(vectors[:20]).mean() - 100
    assert found.standard_error.item() < 1
    assert found.effective_samples.item() > 3


def test_the_elbos_samples_are_averaged_and_the_first_is_that_of_one(vectors, ppca) -> None:
    vae, dataset = ppca.vae(wider=1.3), as_test_split(vectors)
    one, many = terms(vae, dataset), terms(vae, dataset, num_samples=4)
    assert one.standard_error.isnan().all()
    assert many.kl.item() == one.kl.item()
    # The expectation is exact: log p(x) - KL(q(z|x) || p(z|x)).
    expected = ppca.log_px(vectors).mean() - ppca.gap(wider=1.3, shift=0)
    assert abs(many.elbo.item() - expected) < 4 * many.standard_error.item() < 0.5
    draws = torch.stack([terms(vae, dataset, seed=seed, num_samples=4).elbo for seed in range(100)])
    assert many.standard_error.item() == pytest.approx(draws.std().item(), rel=0.25)
    singles = torch.stack([terms(vae, dataset, seed=seed).elbo for seed in range(100)])
    assert draws.std().item() == pytest.approx(singles.std().item() / 2, rel=0.3)
    for batch_size in (600, 37):
        again = terms(vae, dataset, num_samples=4, batch_size=batch_size)
        assert again.elbo.item() == pytest.approx(many.elbo.item(), rel=1e-9)
        assert again.standard_error.item() == pytest.approx(many.standard_error.item(), rel=1e-9)


# Bernoulli


def bernoulli_model(latent: int) -> VAE:
    point = make_point("arch.hidden=[5]", f"latent={latent}", "precision=fp64", "arch.activation=tanh")
    vae = build_vae([point], (1, 1, 6))
    vae.load_state_dict(new_start(point, (1, 1, 6)).model)
    with torch.no_grad():
        for parameter in vae.decoder.parameters():
            parameter *= 4  # so that z matters
    return vae.double()


@pytest.mark.parametrize(("latent", "grid_size"), [(1, 2001), (2, 301)])
def test_bernoulli_bound_agrees_with_quadrature(latent: int, grid_size: int) -> None:
    """log p(x) = log of the integral of p(x|z) N(z; 0, I) by the trapezoid rule on [-9, 9]^L."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 2, (30, 6), generator=generator).double()
    vae = bernoulli_model(latent)

    axis = torch.linspace(-9, 9, grid_size, dtype=torch.float64)
    z = torch.cartesian_prod(*[axis] * latent).view(-1, latent)
    with torch.no_grad():
        logits = vae.decode(z[None])[0]
    log_prior = -0.5 * z.square().sum(1) - latent / 2 * math.log(2 * math.pi)
    log_pxz = x @ F.logsigmoid(logits).T + (1 - x) @ F.logsigmoid(-logits).T  # [N, grid]
    log_px = (log_pxz + log_prior).logsumexp(1) + latent * (axis[1] - axis[0]).log()
    every_x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 6)
    total = every_x @ F.logsigmoid(logits).T + (1 - every_x) @ F.logsigmoid(-logits).T + log_prior
    total = total.logsumexp((0, 1)) + latent * (axis[1] - axis[0]).log()
    assert total.item() == pytest.approx(0, abs=1e-9)  # the quadrature's probabilities of all images add up to 1

    found = bound(vae, as_test_split(x), 2000)
    error = found.standard_error.item()
    assert 0 < error < 0.01
    assert abs(found.bound.item() - log_px.mean().item()) < 4 * error
    elbo = torch.stack([terms(vae, as_test_split(x), seed=seed).elbo for seed in range(40)])
    assert elbo.mean().item() + 4 * elbo.std().item() / 40**0.5 < log_px.mean().item()


# Bits


def test_bits_per_dim_of_known_likelihoods() -> None:
    assert bits_per_dim(-784 * math.log(2), 784) == pytest.approx(1)  # fair coins
    assert bits_per_dim(-12 * math.log(256), 12) == pytest.approx(8)  # uniform bytes
    assert bits_per_dim(0.0, 5) == 0
    assert bits_per_dim(5 * math.log(4), 5) == pytest.approx(-2)  # a density of 4 in each dimension


def test_elbo_of_a_blank_bernoulli_model_is_fair_coins() -> None:
    """All weights 0: p = 1/2 for every pixel, q = N(0, 1) = p(z); -log p = 543.4274 at 784 pixels."""
    images = make_dataset((1, 28, 28), (4, 4, 9))
    vae = build_vae([make_point("arch.hidden=[]", "latent=2", "precision=fp64")], images.image_shape).double()
    found = terms(vae, images)
    assert found.elbo.item() == pytest.approx(-543.4274, abs=1e-4)
    assert found.kl.item() == 0
    assert bound(vae, images, 7).bound.item() == pytest.approx(found.elbo.item(), abs=1e-9)
    assert to_model(images, images.images["test"], torch.float64).unique().numel() > 2  # grey values too
