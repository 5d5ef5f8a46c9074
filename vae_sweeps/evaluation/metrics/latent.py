"""How one model uses its latent space: active units, information, collapse, linear probe, mixture."""

import contextlib
import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vae_sweeps.system import machine

# scikit-learn takes a second to import, and a launch that evaluates nothing does not need it.
if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture
    from sklearn.pipeline import Pipeline

# Entries of the N x N table of log densities held in memory at once, and pairs subtracted at once.
_TABLE_AT_ONCE, _PAIRS_AT_ONCE = 2_000_000, 1 << 14
# A squared distance that is expanded has a relative error of about so much, and may have this absolute one.
_ROUNDING, _LARGEST_ERROR = 1e-14, 1e-9
# Beyond this squared distance (in sigmas) a posterior's density is negligible.
_FAR = 1e4

# Reconstructions that explain less than this fraction of the test images' variance are as good as the mean image.
_EXPLAINS_NOTHING = 0.01


# I is marked as limited by the number of images if it is less than this many nats below ln N. There a component's own
# image has more than e^-1 of q(z), and q(z) comes out too large by -ln(1 - e^-1) = 0.46 nats or more.
_NEAR_LIMIT_NATS = 1.0
# Added to the variances of the Gaussian, relative to their mean, so that it is a density however narrow the codes are.
_LEAST_RELATIVE_VARIANCE = 1e-12


class Information(NamedTuple):
    """E KL(q(z|x) || p(z)) in two parts, nats per image: I(x; z), and the aggregate posterior's KL(q(z) || p(z))."""

    mutual: float
    marginal_kl: float


class Bounds(NamedTuple):
    """A lower and an upper bound of a number in nats, each on average over the images."""

    lower: float
    upper: float


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

    With all images of the distribution instead of N, I would be larger and KL(q(z) || p(z)) smaller: on average over
    the images, I is a lower bound (van den Oord et al. 2018) and the other an upper bound, which falls as N grows.
    """
    num_images, z, own = len(mu), mu + sigma * eps, _log_own(sigma, eps)
    log_qz = []
    for rows, log_q in _log_densities(z, mu, sigma):
        log_q[torch.arange(len(rows)), rows] = own[rows]
        log_qz.append(log_q.logsumexp(1) - math.log(num_images))
    mutual = (own - torch.cat(log_qz)).mean().item()
    return Information(mutual, kl_per_latent(mu, sigma).sum().item() - mutual)


def is_at_limit(mutual: float, num_images: int) -> bool:
    """Whether I is less than 1 nat below ln N: then the number of images limits it, rather than the codes."""
    return mutual > math.log(num_images) - _NEAR_LIMIT_NATS


def marginal_kl_bounds(
    mu: Float[Tensor, "N L"],
    sigma: Float[Tensor, "N L"],
    eps: Float[Tensor, "N L"],
    others_mu: Float[Tensor, "M L"],
    others_sigma: Float[Tensor, "M L"],
) -> Bounds:
    """Bounds of KL(q(z) || p(z)) with the aggregate posterior of the images' distribution, not of N of them.

    The upper bound is that of `information`, at one z per image, where q(z) is the mixture of M other images and the
    image itself. It needs the M + 1 to be draws of one distribution, which they are not if the encoder is overfitted to
    the others.

    The lower bound is E[log g(z) - log p(z)] over the N images in closed form, where g is the Gaussian with the other
    images' mean and covariance of z. It is KL(q(z) || p(z)) - KL(q(z) || g), whatever g is (Barber & Agakov 2003).
    """
    own = _log_own(sigma, eps)
    sums = torch.cat([log_q.logsumexp(1) for _, log_q in _log_densities(mu + sigma * eps, others_mu, others_sigma)])
    log_qz = torch.logaddexp(sums, own) - math.log(len(others_mu) + 1)
    upper = kl_per_latent(mu, sigma).sum() - (own - log_qz).mean()

    mean, covariance = _moments(others_mu, others_sigma)
    ridge = _LEAST_RELATIVE_VARIANCE * covariance.diagonal().mean()
    factor = torch.linalg.cholesky(covariance + ridge * torch.eye(len(mean), dtype=mean.dtype))
    own_mean, own_covariance = _moments(mu, sigma)
    shift = own_mean - mean
    spread = torch.cholesky_solve(own_covariance + torch.outer(shift, shift), factor).trace()
    squares = own_covariance.trace() + own_mean.square().sum()  # E |z|^2
    lower = 0.5 * (squares - spread) - factor.diagonal().log().sum()
    return Bounds(lower.item(), upper.item())


def _log_own(sigma: Float[Tensor, "N L"], eps: Float[Tensor, "N L"]) -> Float[Tensor, " N"]:
    """log q(z|x) of each image at its own z = mu + sigma eps, free of cancellation."""
    return _log_normaliser(sigma) - 0.5 * eps.square().sum(1)


def _log_normaliser(sigma: Float[Tensor, "N L"]) -> Float[Tensor, " N"]:
    return -sigma.log().sum(1) - 0.5 * sigma.shape[1] * math.log(2 * math.pi)


def _log_densities(
    z: Float[Tensor, "N L"], mu: Float[Tensor, "M L"], sigma: Float[Tensor, "M L"]
) -> Iterator[tuple[Int[Tensor, " R"], Float[Tensor, "R M"]]]:
    """log N(z; mu, sigma^2) of R rows of z at once, under each of M Gaussians, with the numbers of the rows.

    The next rows overwrite the densities.
    """
    precision, log_normaliser = sigma.pow(-2), _log_normaliser(sigma)
    weighted, quadratic = mu * precision, (mu.square() * precision).sum(1)
    num_at_once = max(1, _TABLE_AT_ONCE // len(mu))
    # All rows use the same memory: new pages would take up to a third of the time.
    both = z.new_empty(2, min(num_at_once, len(z)), len(mu))
    for rows in torch.arange(len(z)).split(num_at_once):
        # Expand ((z - mu) / sigma)^2: matrix products instead of an N x M x L array.
        sums, squares = both[:, : len(rows)]
        torch.mm(z[rows].square(), precision.T, out=sums).add_(quadratic)
        torch.mm(2 * z[rows], weighted.T, out=squares)
        torch.sub(sums, squares, out=squares)
        # The expansion loses digits for narrow posteriors far from 0; there, subtract directly if the pair may matter.
        if sums.max() * _ROUNDING > _LARGEST_ERROR:
            rounding = _ROUNDING * sums
            i, j = ((rounding > _LARGEST_ERROR) & (squares < _FAR + rounding)).nonzero(as_tuple=True)
            for rows_i, others in zip(i.split(_PAIRS_AT_ONCE), j.split(_PAIRS_AT_ONCE), strict=True):
                squares[rows_i, others] = ((z[rows][rows_i] - mu[others]) / sigma[others]).square().sum(1)
        yield rows, squares.mul_(-0.5).add_(log_normaliser)


def _moments(mu: Float[Tensor, "N L"], sigma: Float[Tensor, "N L"]) -> tuple[Float[Tensor, " L"], Float[Tensor, "L L"]]:
    """Mean and covariance of the mixture of N(mu, sigma^2)."""
    mean = mu.mean(0)
    return mean, (mu - mean).T @ (mu - mean) / len(mu) + sigma.square().mean(0).diag()


def is_collapsed(num_active: int, squared_error: float, squared_error_of_mean: float) -> bool:
    """No active unit, or reconstructions that explain less than 1 % of the images' variance around the mean image."""
    return num_active == 0 or squared_error >= (1 - _EXPLAINS_NOTHING) * squared_error_of_mean


def _one_thread() -> contextlib.AbstractContextManager[object]:
    """One thread for numpy, scipy and scikit-learn, so that the numbers do not depend on the number of cores.

    It limits the libraries that are loaded when it is called, so scikit-learn must be imported before. On two cores one
    thread is also faster than two: `python -m benchmarks.mixture`.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


def fitted_probe(codes: Float[np.ndarray, "N d"], labels: np.ndarray) -> "Pipeline":
    """Multinomial logistic regression on standardised codes (scikit-learn's defaults)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with _one_thread():
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

    kept = machine.memory_kept(torch.device("cpu"), "evaluation")
    with kept, _one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that stops before convergence is still a density
        return GaussianMixture(num_components, random_state=seed, max_iter=100, reg_covar=1e-6).fit(codes)


def sample_mixture(mixture: "GaussianMixture", num: int) -> Float[np.ndarray, "N L"]:
    """`num` codes drawn from the mixture, a function of the seed that it was fitted with."""
    with _one_thread():
        return mixture.sample(num)[0]
