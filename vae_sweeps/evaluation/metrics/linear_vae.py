"""The exact optimum of a linear VAE: its best rates and squared errors follow reverse water-filling.

For a decoder W z + b with L latents and fixed sigma, and any encoder, the minimum of
E|x - x_hat|^2 / (2 sigma^2) + beta KL has, at the water level theta = beta sigma^2,

    rate = sum_i 1/2 ln(lambda_i / theta)    squared error = k theta + sum_(i > k) lambda_i

Here lambda_1 >= lambda_2 >= ... are the eigenvalues of the data's covariance, and the sum is over the k <= L first of
them that are above theta. It is the rate-distortion function of a Gaussian source (Cover & Thomas 2006, th. 10.3.3),
cut off at L components, and contains probabilistic PCA, where theta is the mean of the other eigenvalues (Tipping &
Bishop 1999; Lucas et al. 2019). The data need not be Gaussian: given W, the best q(z|x) is Gaussian, and its mean cost
depends on the covariance alone.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Optimum(NamedTuple):
    """Rates in nats per image, and the smallest squared error per image, summed over pixels, at each rate."""

    rate: Float[Tensor, " N"]
    squared_error: Float[Tensor, " N"]


def spectrum(images: Float[Tensor, "N *shape"]) -> Float[Tensor, " D"]:
    """The eigenvalues of the images' covariance, largest first, in float64."""
    x = images.flatten(1).double()
    centred = x - x.mean(0)
    return torch.linalg.eigvalsh(centred.T @ centred / len(x)).flip(0).clamp(min=0)


def at_level(eigenvalues: Float[Tensor, " D"], levels: Float[Tensor, " N"], latent: int) -> Optimum:
    """The optimum at each water level beta sigma^2 > 0, with `latent` latents."""
    kept, discarded = eigenvalues[:latent], eigenvalues[latent:]
    rate = 0.5 * (kept / levels[:, None]).log().clamp(min=0).sum(1)
    return Optimum(rate, torch.minimum(kept, levels[:, None]).sum(1) + discarded.sum())


def at_rate(eigenvalues: Float[Tensor, " D"], rates: Float[Tensor, " N"], latent: int) -> Optimum:
    """The optimum at each rate >= 0, with `latent` latents: no linear decoder has a smaller error at that rate."""
    kept = eigenvalues[:latent][eigenvalues[:latent] > 0].double()
    sizes = torch.arange(1, len(kept) + 1)
    # The rate from which the k-th latent is used: there the level is lambda_k.
    begins = 0.5 * (kept.log().cumsum(0) - sizes * kept.log())
    k = torch.searchsorted(begins, rates.double(), right=True).clamp(min=1)
    level = ((kept.log().cumsum(0)[k - 1] - 2 * rates) / k).exp()
    unused = eigenvalues.sum() - eigenvalues.cumsum(0)[k - 1]
    return Optimum(rates, k * level + unused)
