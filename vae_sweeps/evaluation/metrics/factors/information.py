"""Mutual information of latents and factors, and the two metrics that it gives: MIG and modularity."""

import numpy as np
from jaxtyping import Float, Int

NUM_BINS = 20


def binned(codes: Float[np.ndarray, "N L"]) -> Int[np.ndarray, "N L"]:
    """The bin of each code, 0 to 19: each latent's range over the images is cut into 20 equal parts."""
    low, high = codes.min(0), codes.max(0)
    width = np.where(high > low, high - low, 1)
    return ((codes - low) / width * NUM_BINS).astype(np.int64).clip(max=NUM_BINS - 1)


def entropies(factors: Int[np.ndarray, "N F"]) -> Float[np.ndarray, " F"]:
    """The entropy of each factor's classes in nats."""
    return np.array([_entropy(np.bincount(classes)) for classes in factors.T])


def mutual_information(codes: Float[np.ndarray, "N L"], factors: Int[np.ndarray, "N F"]) -> Float[np.ndarray, "L F"]:
    """I(z_j; v_k) in nats of the binned codes and the classes, from their frequencies in these images.

    The estimate is too large by about (B - 1) (C - 1) / 2N on average, where B bins and C classes occur (Miller 1955).
    """
    bins = binned(codes) + NUM_BINS * np.arange(codes.shape[1])  # the bins of different latents are different numbers
    information = np.empty((codes.shape[1], factors.shape[1]))
    for k, classes in enumerate(factors.T):
        num_classes = classes.max() + 1
        cells = (bins * num_classes + classes[:, None]).ravel()
        joint = np.bincount(cells, minlength=codes.shape[1] * NUM_BINS * num_classes)
        joint = joint.reshape(codes.shape[1], NUM_BINS, num_classes)
        of_codes, of_both = _entropy(joint.sum(2)), _entropy(joint.reshape(len(joint), -1))
        information[:, k] = of_codes + _entropy(np.bincount(classes)) - of_both
    return information.clip(min=0)  # rounding may leave -1e-16


def _entropy(counts: Int[np.ndarray, "*rows n"]) -> Float[np.ndarray, "*rows"]:
    shares = counts / counts.sum(-1, keepdims=True)
    return -(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum(-1)


def mig(information: Float[np.ndarray, "L F"], entropy: Float[np.ndarray, " F"]) -> float:
    """The mutual information gap (Chen et al. 2018, eq. 6), from 0 to 1, on average over the factors.

    For each factor it is the difference between the two latents that tell most of it, divided by its entropy, which
    must not be 0. Chen et al. integrate over samples of q(z|x); like most later work (Locatello et al. 2019), we bin
    posterior means. A single latent's gap is that to a latent that tells nothing.
    """
    second, first = np.sort(np.vstack([np.zeros_like(entropy), information]), 0)[-2:]
    return float(((first - second) / entropy).mean())


def modularity(information: Float[np.ndarray, "L F"]) -> float:
    """How far each latent tells of one factor only (Ridgeway & Mozer 2018, eq. 2), on average over the latents.

    1 minus the squared information on all factors but the one that the latent tells most of, relative to what it would
    be if the latent told as much of each. Latents without information are left out. A latent of noise gets what the
    errors of the estimates leave: it tells of all factors alike only if these have equally many classes.

    Raises ValueError if there are less than two factors, or no latent has information.
    """
    num_factors = information.shape[1]
    if num_factors < 2:
        raise ValueError("needs at least two factors that vary")
    largest = information.max(1)
    told = largest > 0
    if not told.any():
        raise ValueError("no latent tells anything of a factor")
    of_others = np.square(information[told]).sum(1) - np.square(largest[told])
    return float(1 - (of_others / (np.square(largest[told]) * (num_factors - 1))).mean())
