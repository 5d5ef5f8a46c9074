"""Figures of latents and factors show the numbers that they are given."""

import numpy as np
import pytest
import torch
from PIL import Image

from vae_sweeps.analysis import factor_plots, style

NAMES = ("shape", "x")


def texts(labels: list) -> list[str]:
    return [label.get_text() for label in labels]


def test_the_matrix_has_the_latents_in_order_of_their_kl() -> None:
    shares = np.array([[0.0, 0.1], [0.9, 0.2], [0.3, 0.25]])
    figure = factor_plots.mutual_information(shares, NAMES, np.array([0.5, 2.0, 1.0]), "run")
    axes = figure.axes[0]
    (image,) = axes.get_images()
    assert np.asarray(image.get_array()) == pytest.approx(shares[[1, 2, 0]].T)
    assert image.get_clim() == (0, 1)
    assert texts(axes.get_xticklabels()) == ["1", "2", "0"]
    assert texts(axes.get_yticklabels()) == list(NAMES)
    numbers = {(round(text.get_position()[0]), text.get_position()[1]): text.get_text() for text in axes.texts}
    assert numbers == {(1, 0): "0.90", (1, 1): "0.20", (2, 0): "0.30", (2, 1): "0.25", (3, 0): "0.00", (3, 1): "0.10"}


def test_a_matrix_of_many_latents_has_ranks_and_no_numbers() -> None:
    figure = factor_plots.mutual_information(np.full((128, 2), 0.5), NAMES, np.arange(128.0), "run")
    axes = figure.axes[0]
    assert axes.get_xlabel() == "rank of latent by its KL"
    assert axes.get_xlim() == (0.5, 128.5)
    assert len(axes.texts) == 0


def test_a_row_of_a_traversal_says_what_its_latent_tells_most_of(tmp_path) -> None:
    images = torch.rand(2, 3, 1, 60, 60, generator=torch.Generator().manual_seed(0))
    shares, kl = np.array([[0.2, 0.1], [0.0, 0.0], [0.3, 0.456]]), np.array([1.0, 0.0, 3.14159])
    figure = factor_plots.traversals(images, [2, 1], 1.5, shares, NAMES, kl, "run")
    axes = figure.axes[0]
    assert texts(axes.get_yticklabels()) == ["latent 2, 3.14 nats\n46% of x", "latent 1, 0.00 nats\nno factor"]
    assert texts(axes.get_xticklabels()) == ["-1.5", "0", "1.5"]
    style.save(figure, tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as drawn:
        pixels = np.asarray(drawn.convert("L"), int)
    expected = (255 * images[1, 2, 0]).round().numpy()
    right, bottom = pixels.shape[1] - 12, pixels.shape[0] - 40  # where the grid ends, with a gap of 2
    assert abs(pixels[bottom - 62 : bottom - 2, right - 62 : right - 2] - expected).max() <= 1
