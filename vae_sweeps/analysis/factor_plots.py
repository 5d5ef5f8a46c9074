"""Figures of what the latents of one run tell of the factors of variation."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from vae_sweeps.analysis.pictures import grid
from vae_sweeps.analysis.style import INK, SCALE, new_figure, style

_DPI = 100
_MANY_LATENTS = 20  # more labels would touch
_LIGHT = 0.6  # from this share on, a cell is light, and its number dark
_CHARACTER_PX, _TITLE_PX, _TICKS_PX, _MARGIN_PX = 8, 44, 40, 12


def mutual_information(shares: np.ndarray, names: Sequence[str], kl: np.ndarray, title: str) -> Figure:
    """Plot the mutual information of each latent (across, the largest KL first) and factor (down); 780 px wide.

    `shares` [L,F] is the mutual information over the factor's entropy, from 0 to 1; `kl` [L] is in nats.
    """
    order = np.argsort(-kl, kind="stable")
    few = len(order) <= _MANY_LATENTS
    figure = new_figure(7.8, 1.9 + 0.4 * len(names), title)
    axes = figure.add_subplot()
    box = (0.5, len(order) + 0.5, len(names) - 0.5, -0.5)  # latents have the ranks 1 to L
    image = axes.imshow(shares[order].T, SCALE, aspect="auto", vmin=0, vmax=1, interpolation="nearest", extent=box)
    style(axes, "mutual information of latents and factors, over the factor's entropy")
    axes.grid(visible=False)
    axes.set_yticks(range(len(names)), list(names))
    if few:
        ranks = range(1, len(order) + 1)
        axes.set_xticks(ranks, [str(j) for j in order])
        for (rank, j), row in product(zip(ranks, order, strict=True), range(len(names))):
            share = shares[j, row]
            colour = INK if share > _LIGHT else "white"
            axes.text(rank, row, f"{share:.2f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xlabel("latent, the largest KL first" if few else "rank of latent by its KL", color=INK)
    figure.colorbar(image, ax=axes, pad=0.02)
    return figure


def traversals(
    images: Tensor,
    latents: Sequence[int],
    extent: float,
    shares: np.ndarray,
    names: Sequence[str],
    kl: np.ndarray,
    title: str,
) -> Figure:
    """Show the images [R,T,C,H,W], in [0,1], of R `latents` that go from -extent to extent, one latent a row.

    A row's label has the latent's number, its KL (`kl` [L] in nats) and the factor that it tells most of, with its
    share of the factor's entropy (`shares` [L,F]).
    """
    picture = grid(images.flatten(0, 1), images.shape[1], (0.0, 1.0))
    labels = [f"latent {j}, {kl[j]:.2f} nats\n{_most(shares[j], names)}" for j in latents]
    left = _MARGIN_PX + _CHARACTER_PX * max(len(line) for label in labels for line in label.split("\n"))
    width, height = left + picture.width + _MARGIN_PX, _TITLE_PX + picture.height + _TICKS_PX
    figure = new_figure(width / _DPI, height / _DPI, title)
    figure.set_layout_engine("none")  # a pixel of the figure is one of the images
    box = (left / width, _TICKS_PX / height, picture.width / width, picture.height / height)
    axes = figure.add_axes(box)
    axes.imshow(picture, aspect="auto", interpolation="nearest")
    axes.spines[:].set_visible(False)
    tile_width, tile_height = picture.width / images.shape[1], picture.height / len(latents)
    steps = np.linspace(-extent, extent, images.shape[1])
    axes.set_xticks((np.arange(len(steps)) + 0.5) * tile_width, [f"{step:.2g}" for step in steps])
    axes.set_yticks((np.arange(len(latents)) + 0.5) * tile_height, labels)
    axes.tick_params(length=0, labelcolor=INK, labelsize=9)
    axes.set_xlabel("z of the latent; all others are 0", color=INK, fontsize=9)
    return figure


def _most(shares: np.ndarray, names: Sequence[str]) -> str:
    most = int(shares.argmax())
    return f"{shares[most]:.0%} of {names[most]}" if shares[most] > 0 else "no factor"
