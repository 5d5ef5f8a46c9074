"""How one model uses its latent space: active units, information, collapse, linear probe, mixture."""

import math
import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

# scikit-learn takes a second to import, and a launch that evaluates nothing does not need it.
if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture
    from sklearn.pipeline import Pipeline

# Entries of the N x N table of log densities held in memory at once, and pairs subtracted at once.
_TABLE_AT_ONCE, _PAIRS_AT_ONCE = 2_000_000, 1 << 14
# Beyond this squared distance (in sigmas) a posterior's density is negligible.
_FAR = 1e4

# Reconstructions that explain less than this fraction of the test images' variance are as good as the mean image.
_EXPLAINS_NOTHING = 0.01


class Information(NamedTuple):
    """E KL(q(z|x) || p(z)) in two parts, nats per image: I(x; z), and the aggregate posterior's KL(q(z) || p(z))."""

    mutual: float
    marginal_kl: float


def active_units(mu_variance: Float[Tensor, "*K L"], threshold: float = 0.01) -> Int[Tensor, "*K"]:
    """Latents whose posterior mean varies over the data by more than `threshold` (Burda et al. 2015, sec. 5.2)."""
    return (mu_variance > threshold).sum(-1)


def kl_per_latent(mu: Float[Tensor, "N L"], sigma: Float[Tensor, "N L"]) -> Float[Tensor, " L"]:
    """KL(q(z_i|x) || N(0,1)) of each latent in nats, averaged over the images."""
    return (0.5 * (mu.square() + sigma.square() - 1) - sigma.log()).mean(0)


def information(mu: Float[Tensor, "N L"], sigma: Float[Tensor, "N L"], eps: Float[Tensor, "N L"]) -> Information:
    """The ELBO surgery of E KL (Hoffman & Johnson 2016), where x is one of these N images with equal probability.

    I = E[log q(z|x) - log q(z)] at one z = mu + sigma eps per image, so it is at most ln N; the rest of the exact E KL
    is the aggregate posterior's, so the two add up to it for any eps. Inputs are float64.
    """
    num_images, num_latents = mu.shape
    z = mu + sigma * eps
    precision = sigma.pow(-2)
    log_normaliser = -sigma.log().sum(1) - 0.5 * num_latents * math.log(2 * math.pi)  # [N]
    quadratic = (mu.square() * precision).sum(1)
    own = log_normaliser - 0.5 * eps.square().sum(1)  # log q(z_n | x_n), free of cancellation
    log_qz = []
    for rows in torch.arange(num_images).split(max(1, _TABLE_AT_ONCE // num_images)):
        # Expand ((z - mu) / sigma)^2: matrix products instead of an N x N x L array.
        sums = z[rows].square() @ precision.T + quadratic
        squares = sums - 2 * z[rows] @ (mu * precision).T
        # The expansion loses digits for narrow posteriors far from 0; there, subtract directly if the pair may matter.
        rounding = 1e-14 * sums
        i, j = ((rounding > 1e-9) & (squares < _FAR + rounding)).nonzero(as_tuple=True)
        for rows_i, others in zip(i.split(_PAIRS_AT_ONCE), j.split(_PAIRS_AT_ONCE), strict=True):
            squares[rows_i, others] = ((z[rows][rows_i] - mu[others]) / sigma[others]).square().sum(1)
        log_q = log_normaliser - 0.5 * squares
        log_q[torch.arange(len(rows)), rows] = own[rows]
        log_qz.append(log_q.logsumexp(1) - math.log(num_images))
    mutual = (own - torch.cat(log_qz)).mean().item()
    return Information(mutual, kl_per_latent(mu, sigma).sum().item() - mutual)


def is_collapsed(num_active: int, squared_error: float, squared_error_of_mean: float) -> bool:
    """No active unit, or reconstructions that explain less than 1 % of the images' variance around the mean image."""
    return num_active == 0 or squared_error >= (1 - _EXPLAINS_NOTHING) * squared_error_of_mean


def fitted_probe(codes: Float[np.ndarray, "N d"], labels: np.ndarray) -> "Pipeline":
    """Multinomial logistic regression on standardised codes (scikit-learn's defaults)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(codes, labels)


def linear_probe(
    codes: Float[np.ndarray, "N d"], labels: np.ndarray, test_codes: Float[np.ndarray, "M d"], test_labels: np.ndarray
) -> float:
    """Test accuracy of `fitted_probe`."""
    return float(fitted_probe(codes, labels).score(test_codes, test_labels))


def fit_mixture(codes: Float[np.ndarray, "N L"], num_components: int, seed: int) -> "GaussianMixture":
    """A Gaussian mixture with full covariances on latent codes (Ghosh et al. 2020, sec. 4)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that stops before convergence is still a density
        return GaussianMixture(num_components, random_state=seed, max_iter=100, reg_covar=1e-6).fit(codes)
