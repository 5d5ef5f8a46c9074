"""A VAE of K points: encoder, heads of the posterior, decoder, likelihood, and the terms of its ELBO."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps.models.architecture import Networks
from vae_sweeps.models.init import draw, initialise_layers

# The raw output at which sigma = 1, for each kind of head; it fills the padding of smaller latent spaces.
_RAW_OF_UNIT_SIGMA = {"logvar": 0.0, "softplus": 0.5413248546129181, "square": 1.0, "sigma": 1.0}

_LEAST_VARIANCE = 1e-10  # added inside the logarithm if the encoder outputs sigma itself, which may be 0


class Posterior(NamedTuple):
    """q(z|x) = N(mu, diag(sigma^2)), each [K,B,L]; log_sigma is ln sigma."""

    mu: Tensor
    sigma: Tensor
    log_sigma: Tensor

    def rsample(self, eps: Float[Tensor, "K B L"]) -> Float[Tensor, "K B L"]:
        """z = mu + sigma * eps (Kingma & Welling 2014, sec. 2.4)."""
        return torch.addcmul(self.mu, self.sigma, eps)


class Heads(nn.Module):
    """Map features [K,B,F] (or shared [B,F]) to mu and the raw scale, each [K,B,L], in one matrix product."""

    def __init__(self, num_models: int, num_features: int, latent: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_models, num_features, 2, latent))
        self.bias = nn.Parameter(torch.zeros(num_models, 1, 2, latent))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        if features.dim() == 2:
            features = features.expand(self.weight.shape[0], *features.shape)
        out = torch.baddbmm(self.bias.flatten(2), features, self.weight.flatten(2))
        mu, raw = out.unflatten(-1, self.weight.shape[2:]).unbind(-2)
        return mu, raw


class VAE(nn.Module):
    """K VAEs of one architecture. Smaller latent spaces are padded to the largest; the padding has no effect.

    `kind` defines the posterior's scale as a function of the raw output s: logvar, sigma = exp(s/2); softplus,
    sigma = ln(1 + e^s); square, sigma = s^2; sigma, sigma = |s|, ln sigma = ln(s^2 + 1e-10) / 2.
    """

    is_padded: Tensor | None

    def __init__(self, networks: Networks, likelihood: nn.Module, latents: Sequence[int], kind: str) -> None:
        super().__init__()
        self.num_models, self.latents, self.kind = len(latents), list(latents), kind
        self.encoder, self.decoder = networks.encoder, networks.decoder
        self.heads = Heads(self.num_models, networks.num_features, max(latents))
        self.likelihood = likelihood
        self.init = networks.init
        is_padded = None  # [K,1,L]
        if len(set(latents)) > 1:
            is_padded = (torch.arange(max(latents)) >= torch.tensor(latents).unsqueeze(1)).unsqueeze(1)
        self.register_buffer("is_padded", is_padded, persistent=False)

    def encode(self, x: Float[Tensor, "B C H W"]) -> Posterior:
        mu, raw = (out.to(x.dtype) for out in self.heads(self.encoder(x)))  # under autocast they have fewer bits
        if self.is_padded is not None:
            raw = raw.masked_fill(self.is_padded, _RAW_OF_UNIT_SIGMA[self.kind])
        if self.kind == "logvar":
            log_sigma = 0.5 * raw
            return Posterior(mu, log_sigma.exp(), log_sigma)
        if self.kind == "sigma":
            return Posterior(mu, raw.abs(), 0.5 * (raw.square() + _LEAST_VARIANCE).log())
        sigma = F.softplus(raw) if self.kind == "softplus" else raw.square()
        return Posterior(mu, sigma, sigma.log())

    def decode(self, z: Float[Tensor, "K B L"]) -> Float[Tensor, "K B D"]:
        """The likelihood's parameters."""
        return self.decoder(z)

    def kl_per_latent(self, q: Posterior) -> Float[Tensor, "K B L"]:
        """KL(q(z_i|x) || N(0,1)) = (mu^2 + sigma^2 - 1)/2 - ln sigma in nats; 0 in the padding."""
        kl = torch.addcmul(q.sigma.square(), q.mu, q.mu).sub_(1).mul_(0.5).sub_(q.log_sigma)
        return kl if self.is_padded is None else kl.masked_fill(self.is_padded, 0.0)


def initialise(vae: VAE, generator: torch.Generator) -> None:
    """Draw the weights of a VAE of one model."""
    assert vae.num_models == 1
    initialise_layers(vae, generator, vae.init)
    _, num_features, _, latent = vae.heads.weight.shape
    draw(vae.heads.weight, vae.heads.bias, (num_features, latent), vae.init, generator)


@dataclass(frozen=True)
class Terms:
    """The two terms of the ELBO for each model and image, [K,B], in nats, at one posterior sample.

    `kl_per_latent` [K,B,L] are the parts of `kl`, 0 in the padding.
    """

    log_px: Tensor
    kl: Tensor
    kl_per_latent: Tensor


def elbo_terms(vae: VAE, x: Float[Tensor, "B C H W"], eps: Float[Tensor, "K B L"]) -> Terms:
    """log p(x|z) at z = mu + sigma eps, and KL(q(z|x) || p(z)) in closed form (Kingma & Welling 2014, eq. 10)."""
    q = vae.encode(x)
    params = vae.decode(q.rsample(eps))
    params = params.to(x.dtype)  # under autocast the networks' outputs have fewer bits
    kl = vae.kl_per_latent(q)
    return Terms(vae.likelihood.log_prob(params, x.flatten(1)), kl.sum(-1), kl)  # type: ignore[operator]
