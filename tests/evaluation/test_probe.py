"""The linear probe on codes and on samples of them."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from vae_sweeps.evaluation.metrics.latent import (
    linear_probe,
)


def clusters(num_codes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four classes on the corners of a square of side 10 in three dimensions, with noise below 1."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_codes) % 4
    corners = 10 * np.stack([labels % 2, labels // 2, 0 * labels], 1)
    return corners + rng.uniform(-1, 1, (num_codes, 3)), labels


def test_separable_codes_are_classified_without_error() -> None:
    assert linear_probe(*clusters(200, 0), *clusters(100, 1)) == 1.0


def test_a_probe_on_samples_is_bounded_by_their_information() -> None:
    """Two classes with mu = +-m and sigma = 1: from mu they are known, from z with accuracy Phi(m) at best.

    KL = m^2 / 2 is at least the information, so accuracy <= 1/2 + sqrt(KL / 2) (Pinsker).
    """
    draw = np.random.default_rng(0)
    labels = np.arange(20_000) % 2
    for mean in (0.04, 0.5, 3.0):
        mu = mean * (2.0 * labels[:, None] - 1)
        z = mu + draw.standard_normal(mu.shape)
        half = slice(0, 10_000), slice(10_000, None)
        of_mu, of_z = (
            linear_probe(codes[half[0]], labels[half[0]], codes[half[1]], labels[half[1]]) for codes in (mu, z)
        )
        error = 0.5 / 10_000**0.5
        assert of_mu == 1
        assert of_z == pytest.approx(norm.cdf(mean), abs=4 * error)
        assert of_z <= 0.5 + math.sqrt(mean**2 / 4) + 4 * error


def test_labels_that_are_independent_of_the_codes_are_right_by_chance() -> None:
    rng = np.random.default_rng(0)
    codes, labels = rng.standard_normal((4000, 5)), rng.integers(4, size=4000)
    accuracy = linear_probe(codes[:2000], labels[:2000], codes[2000:], labels[2000:])
    assert abs(accuracy - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 2000)


def test_the_probe_does_not_depend_on_the_scale_of_a_dimension() -> None:
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((600, 3))
    labels = (codes @ [1.0, 1.0, 0.2] + rng.standard_normal(600) > 0).astype(np.int64)
    accuracy = linear_probe(codes[:400], labels[:400], codes[400:], labels[400:])
    assert 0.6 < accuracy < 1
    scaled = codes * [1e-3, 1e4, 1] + [0, 50, -3]
    assert linear_probe(scaled[:400], labels[:400], scaled[400:], labels[400:]) == accuracy
