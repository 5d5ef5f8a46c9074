"""The loss and the network of each published set-up are those of its source."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers import literal_networks
from tests.helpers.literal_networks import Literal
from tests.helpers.presets import RANGES, SHAPES, point_of
from vae_sweeps.config.schema import Point
from vae_sweeps.models.build import build_vae
from vae_sweeps.models.size import num_params
from vae_sweeps.models.vae import VAE, elbo_terms
from vae_sweeps.training import objective
from vae_sweeps.training.pack import new_start


def double_vae(point: Point, shape: tuple[int, int, int]) -> VAE:
    """A VAE with the point's initial weights plus small random changes, so that no bias is 0."""
    vae = build_vae([point], shape)
    vae.load_state_dict(new_start(point, shape).model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return vae.double().train()


def random(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# The loss of each source as printed there, given x, the decoder's output, mu and the other head, all [B,...].
def mnist_textbook(x: Tensor, logits: Tensor, mu: Tensor, gamma: Tensor) -> Tensor:
    reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum()
    return reconstruction + 0.5 * (torch.exp(gamma) + mu.square() - 1 - gamma).sum()


def mnist_textbook_of_sigma(x: Tensor, logits: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum()
    return reconstruction + 0.5 * (sigma.square() + mu.square() - 1 - torch.log(1e-10 + sigma.square())).sum()


def mnist_beta(x: Tensor, logits: Tensor, mu: Tensor, root: Tensor) -> Tensor:
    sigma = root.square()
    kl = 0.5 * (mu.square() + sigma.square() - 1) - torch.log(sigma)
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").mean() + 0.01 * kl.mean()


def mnist_conv(x: Tensor, logits: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    p = torch.sigmoid(logits)
    reconstruction = -(x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(1)
    kl = 0.5 * (mu.square() + sigma.square() - torch.log(sigma.square()) - 1).sum(1)
    return (reconstruction + kl).mean()


def mnist_conv_squared(x: Tensor, mean: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    kl = 0.5 * (mu.square() + sigma.square() - torch.log(sigma.square()) - 1).sum(1)
    return ((x - mean).square().sum(1) + kl).mean()


def celeba_tf1(x: Tensor, mean: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    kl = -0.5 * (1 + logvar - mu.square() - torch.exp(logvar)).sum(1)
    return (x - mean).square().mean() + 2 * 0.04 / (128 * 128 * 3) * kl.mean()


def celeba_conv(x: Tensor, mean: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    kl = torch.mean(-0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp(), dim=1), dim=0)
    return F.mse_loss(mean, x) + 0.00025 * kl


SQUARED = ["likelihood=gaussian", "objective.error=squared", "likelihood.sigma=0.70710678", "arch.output=sigmoid"]
LOSSES: dict[str, tuple[str, list[str], Callable[[], Literal], Callable[..., Tensor]]] = {
    "textbook": ("mnist_textbook", [], lambda: literal_networks.mlp([500, 500], 20, nn.ELU), mnist_textbook),
    "textbook, sigma": (
        *("mnist_textbook", ["posterior=sigma"]),
        *(lambda: literal_networks.mlp([500, 500], 20, nn.ELU), mnist_textbook_of_sigma),
    ),
    "beta": ("mnist_beta", [], lambda: literal_networks.mlp([100, 100], 10, nn.ReLU), mnist_beta),
    "conv": ("mnist_conv", [], literal_networks.mnist_conv, mnist_conv),
    "conv, squared": (
        *("mnist_conv", SQUARED, lambda: literal_networks.mnist_conv([nn.Sigmoid()])),
        mnist_conv_squared,
    ),
    "tf1": ("celeba_tf1", [], literal_networks.celeba_tf1, celeba_tf1),
    "celeba": ("celeba_conv", [], literal_networks.celeba_conv, celeba_conv),
    "celeba, narrow": ("celeba_conv_narrow", [], literal_networks.celeba_conv_narrow, celeba_conv),
}


@torch.no_grad()
@pytest.mark.parametrize("case", LOSSES)
def test_the_loss_is_the_sources_formula(case: str) -> None:
    experiment, overrides, make_literal, formula = LOSSES[case]
    point, shape = point_of(experiment, *overrides), SHAPES[experiment]
    vae, literal = double_vae(point, shape), make_literal()
    for part in literal:
        part.double()
    literal_networks.put_weights(vae, literal)
    low, high = RANGES.get(experiment, (0.0, 1.0))
    x = low + (high - low) * random(3, *shape, seed=2)
    eps = random(3, point.latent, seed=3) * 4 - 2

    features = literal.encoder(x)
    mu, raw = literal.mu(features), literal.scale(features)
    sigma = {"logvar": torch.exp(raw / 2), "square": raw.square(), "sigma": raw}[point.posterior]
    expected = formula(x.flatten(1), literal.decoder(mu + sigma * eps), mu, raw)

    weights = objective.weights([point], shape, 10, torch.device("cpu"), torch.float64)
    noise = eps * sigma.sign()  # a negative sigma flips the sign of the noise
    loss = weights.loss(elbo_terms(vae, x, noise.unsqueeze(0)), step=0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert num_params(point, shape) == literal_networks.num_params(literal)


def conv(num_in: int, num_out: int, kernel: int) -> int:
    """The number of weights of a convolution and of its bias (or of the shift of its batch normalisation)."""
    return num_in * num_out * kernel**2 + num_out


NUM_PARAMS = {
    "mnist_textbook": 785 * 500 + 501 * 500 + 2 * 501 * 20 + 21 * 500 + 501 * 500 + 501 * 784,
    "mnist_beta": 785 * 100 + 101 * 100 + 2 * 101 * 10 + 11 * 100 + 101 * 100 + 101 * 784,
    "mnist_conv": conv(1, 16, 5) + conv(16, 32, 5) + 1569 * 128 + 2 * 129 * 20  # and the decoder
    + 21 * 128 + 129 * 1568 + conv(32, 16, 5) + conv(16, 1, 5),
    "celeba_tf1": sum(conv(a, b, 4) + b for a, b in [(3, 32), (32, 64), (64, 128), (128, 256), (256, 512)])
    + 2 * (4 * 4 * 512 + 1) * 128
    + sum(conv(a, b, 4) + b for a, b in [(128, 512), (512, 256), (256, 128), (128, 64), (64, 32)]) + conv(32, 3, 3),
    "celeba_conv": sum(conv(a, b, 3) + b for a, b in [(3, 512), (512, 256), (256, 128), (128, 64), (64, 32)])
    + 2 * (2 * 2 * 32 + 1) * 128 + 129 * 128
    + sum(conv(a, b, 3) + b for a, b in [(32, 32), (32, 64), (64, 128), (128, 256), (256, 512)]) + conv(512, 3, 3),
    "celeba_conv_narrow": sum(conv(a, b, 3) + b for a, b in [(3, 32), (32, 64), (64, 128), (128, 256), (256, 512)])
    + 2 * (2 * 2 * 512 + 1) * 128 + 129 * 2048
    + sum(conv(a, b, 3) + b for a, b in [(512, 256), (256, 128), (128, 64), (64, 32), (32, 32)]) + conv(32, 3, 3),
}  # fmt: skip
NUM_FEATURES = {
    "mnist_textbook": 500,
    "mnist_beta": 100,
    "mnist_conv": 128,
    "celeba_tf1": 4 * 4 * 512,
    "celeba_conv": 2 * 2 * 32,
    "celeba_conv_narrow": 2 * 2 * 512,
}


@pytest.mark.parametrize("experiment", SHAPES)
def test_shapes_and_numbers_of_parameters_match_a_calculation_by_hand(experiment: str) -> None:
    point, shape = point_of(experiment), SHAPES[experiment]
    assert num_params(point, shape) == NUM_PARAMS[experiment]
    vae = build_vae([point], shape)
    x = torch.rand(2, *shape)
    assert vae.encoder(x).shape == (1, 2, NUM_FEATURES[experiment])
    assert vae.encode(x).mu.shape == (1, 2, point.latent)
    assert vae.decode(vae.encode(x).mu).shape == (1, 2, math.prod(shape))


@pytest.mark.parametrize(
    ("experiment", "nats"),
    [
        *(("mnist_textbook", 1), ("mnist_beta", 0.784), ("mnist_conv", 1)),
        *(("celeba_tf1", 1), ("celeba_conv", 1), ("celeba_conv_narrow", 1)),
    ],
)
def test_beta_in_nats_of_each_experiment(experiment: str, nats: float) -> None:
    assert objective.beta_nats(point_of(experiment), SHAPES[experiment]) == pytest.approx(nats, rel=1e-9)


def test_beta_of_celeba_conv_corresponds_to_a_variance_of_1_536() -> None:
    point = point_of("celeba_conv")
    assert point.likelihood["sigma"] ** 2 == pytest.approx(1.536, rel=1e-12)
    assert point.beta * math.prod(SHAPES["celeba_conv"]) / 2 == pytest.approx(1.536, rel=1e-12)


def test_celeba_conv_narrow_differs_from_celeba_conv_only_in_its_widths() -> None:
    printed, narrow = point_of("celeba_conv"), point_of("celeba_conv_narrow")
    widths = {"channels": printed.arch["channels"], "decoder_channels": printed.arch["decoder_channels"]}
    assert narrow.arch != printed.arch
    assert replace(narrow, arch=narrow.arch | widths) == printed
