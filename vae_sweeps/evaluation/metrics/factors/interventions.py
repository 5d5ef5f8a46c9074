"""Metrics from groups of images that share one factor's value: the FactorVAE score and the beta-VAE score.

The papers generate such images. Here they are drawn, with replacement, among the given images that share the value, so
the other factors vary as they do there. The value is that of a random image; values that only one image has are not
drawn. As in Locatello et al. (2019), a classifier is fitted to 10,000 votes, each of 64 images or pairs, and tested on
5,000 others.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from vae_sweeps.evaluation.metrics.latent import linear_probe
from vae_sweeps.system.rng import generator

NUM_VOTES, NUM_TEST_VOTES, IMAGES_PER_VOTE = 10_000, 5_000, 64
# Numbers of codes gathered at once.
_NUMBERS_AT_ONCE = 1 << 22


def factorvae(codes: Float[np.ndarray, "N L"], factors: Int[np.ndarray, "N F"], seed: int) -> float:
    """The FactorVAE score (Kim & Mnih 2018, sec. 4): an accuracy, which is at least about 1/F with F factors.

    A vote names the latent whose variance over images with equal values of a factor is smallest, relative to its
    variance over all images. The score is the accuracy of the majority vote, which predicts the factor from the latent.
    No latent is left out as collapsed. Raises ValueError as `_random_factors` does.
    """
    draw = _random("factorvae", seed)
    chosen = _random_factors(factors, draw)
    scale = codes.var(0)
    votes = np.empty_like(chosen)
    for k, at in _blocks(chosen, codes.shape[1]):
        images = _sharing(factors[:, k], (len(at), IMAGES_PER_VOTE), draw)
        votes[at] = (codes[images].var(1) / scale).argmin(1)
    fit, test = slice(NUM_VOTES), slice(NUM_VOTES, None)
    counts = np.zeros((codes.shape[1], factors.shape[1]))
    np.add.at(counts, (votes[fit], chosen[fit]), 1)
    return float((counts.argmax(1)[votes[test]] == chosen[test]).mean())


def betavae(codes: Float[np.ndarray, "N L"], factors: Int[np.ndarray, "N F"], seed: int) -> float:
    """The beta-VAE score (Higgins et al. 2017, sec. 3): an accuracy, which is about 1/F by chance with F factors.

    A linear classifier predicts the factor whose values are equal within each of 64 pairs of different images from
    |z_1 - z_2|, averaged over the pairs. It is logistic regression on standardised inputs, so the scale of a latent
    does not matter. Raises ValueError as `_random_factors` does.
    """
    draw = _random("betavae", seed)
    chosen = _random_factors(factors, draw)
    differences = np.empty((len(chosen), codes.shape[1]))
    for k, at in _blocks(chosen, codes.shape[1]):
        one, other = _pairs_sharing(factors[:, k], (len(at), IMAGES_PER_VOTE), draw)
        differences[at] = np.abs(codes[one] - codes[other]).mean(1)
    fit, test = slice(NUM_VOTES), slice(NUM_VOTES, None)
    return linear_probe(differences[fit], chosen[fit], differences[test], chosen[test])


def _random(purpose: str, seed: int) -> np.random.Generator:
    return np.random.default_rng(generator(purpose, seed).initial_seed())


def _random_factors(factors: Int[np.ndarray, "N F"], draw: np.random.Generator) -> Int[np.ndarray, " V"]:
    """The factor that each vote is about. Raises ValueError if there are less than two, or one has no shared value."""
    num_factors = factors.shape[1]
    if num_factors < 2:
        raise ValueError("needs at least two factors that vary")
    if any(np.bincount(classes).max() < 2 for classes in factors.T):
        raise ValueError("needs images that share a value, for each factor")
    return draw.integers(num_factors, size=NUM_VOTES + NUM_TEST_VOTES)


def _blocks(chosen: Int[np.ndarray, " V"], num_latents: int) -> Iterator[tuple[int, Int[np.ndarray, " B"]]]:
    """The factors, each with the numbers of its votes, a block at a time."""
    num_at_once = max(1, _NUMBERS_AT_ONCE // (IMAGES_PER_VOTE * num_latents))
    for k in np.unique(chosen):
        votes = np.flatnonzero(chosen == k)
        for start in range(0, len(votes), num_at_once):
            yield int(k), votes[start : start + num_at_once]


def _groups(classes: Int[np.ndarray, " N"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The images in order of their class, and for each place in this order its group's start and size."""
    order = np.argsort(classes, kind="stable")
    sizes = np.bincount(classes)
    starts = np.cumsum(sizes) - sizes
    return order, starts[classes[order]], sizes[classes[order]]


def _sharing(
    classes: Int[np.ndarray, " N"], shape: tuple[int, int], draw: np.random.Generator
) -> Int[np.ndarray, "V B"]:
    """V groups of B images, each of one class."""
    order, start, size = _groups(classes)
    place = draw.choice(np.flatnonzero(size > 1), size=(shape[0], 1))
    return order[start[place] + draw.integers(size[place], size=shape)]


def _pairs_sharing(
    classes: Int[np.ndarray, " N"], shape: tuple[int, int], draw: np.random.Generator
) -> tuple[Int[np.ndarray, "V B"], Int[np.ndarray, "V B"]]:
    """V times B pairs of different images of one class; each pair has a class of its own."""
    order, start, size = _groups(classes)
    place = draw.choice(np.flatnonzero(size > 1), size=shape)
    step = draw.integers(1, size[place])
    other = start[place] + (place - start[place] + step) % size[place]
    return order[place], order[other]
