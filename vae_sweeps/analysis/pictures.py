"""Pictures of one run as PNG: reconstructions, samples, interpolations, a traversal, nearest neighbours."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vae_sweeps.config.schema import Pictures
from vae_sweeps.system.files import write_whole
from vae_sweeps.system.rng import generator

_BACKGROUND = 232  # between tiles: seen beside black digits and beside white ones
_GAP_PX, _BAND_GAP_PX = 2, 8
MIN_TILE_PX = 56


class Drawable(Protocol):
    """A trained model as pictures need it: CPU floats in and out, C of 1 or 3."""

    @property
    def latent(self) -> int: ...

    @property
    def pixel_range(self) -> tuple[float, float]: ...

    def encode(self, x: Tensor, /) -> tuple[Tensor, Tensor]:
        """x [B,C,H,W] -> mu [B,L], sigma [B,L]."""
        ...

    def decode(self, z: Tensor, /) -> Tensor:
        """z [B,L] -> mean [B,C,H,W]."""
        ...


def grid(images: Tensor, num_columns: int, pixel_range: tuple[float, float]) -> Image.Image:
    """`images` [N,C,H,W] row by row, clipped to `pixel_range`; small ones are enlarged by a whole factor."""
    return _grid_of_rows(images.split(num_columns), pixel_range)


def _grid_of_rows(rows: Sequence[Tensor], pixel_range: tuple[float, float], rows_per_band: int = 1) -> Image.Image:
    """Rows of at most as many images as the first; a wider gap parts bands of `rows_per_band` rows, if over 1."""
    tiles = _pixels(torch.cat(list(rows)), pixel_range)
    num_columns, (height, width, num_channels) = len(rows[0]), tiles.shape[1:]
    if num_columns == 0:
        raise ValueError("images: none to draw; the split must have at least one image")
    band_gap = _BAND_GAP_PX - _GAP_PX if rows_per_band > 1 else 0
    tops = [_GAP_PX + r * (height + _GAP_PX) + r // rows_per_band * band_gap for r in range(len(rows))]
    lefts = [_GAP_PX + c * (width + _GAP_PX) for c in range(num_columns)]
    size = (tops[-1] + height + _GAP_PX, lefts[-1] + width + _GAP_PX)
    canvas = np.full((*size, num_channels), _BACKGROUND, np.uint8)
    places = [(top, left) for top, row in zip(tops, rows, strict=True) for left in lefts[: len(row)]]
    for (top, left), tile in zip(places, tiles, strict=True):
        canvas[top : top + height, left : left + width] = tile
    return Image.fromarray(canvas.squeeze(2) if num_channels == 1 else canvas).convert("RGB")


def _pixels(images: Tensor, pixel_range: tuple[float, float]) -> np.ndarray:
    """[N,C,H,W] floats -> [N,h,w,C] bytes, h and w enlarged by one whole factor. NaN is shown as the low end."""
    low, high = pixel_range
    unit = ((images.detach() - low) / (high - low)).nan_to_num(nan=0.0).clamp(0, 1)
    pixels = (255 * unit).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    factor = math.ceil(MIN_TILE_PX / max(images.shape[-2:]))
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2)


def _grid_of_pairs(above: Tensor, below: Tensor, num_columns: int, pixel_range: tuple[float, float]) -> Image.Image:
    """Each image of `above` [N,C,H,W] directly above the one of `below` [N,C,H,W], in bands."""
    bands = zip(above.split(num_columns), below.split(num_columns), strict=True)
    return _grid_of_rows([row for band in bands for row in band], pixel_range, rows_per_band=2)


@torch.no_grad()
def reconstructions(model: Drawable, x: Tensor, num: int = 40) -> Image.Image:
    """The first `num` of the images x [N,C,H,W], ten across, each above its reconstruction, decoded at z = mu."""
    x = x[:num]
    mu, _ = model.encode(x)
    return _grid_of_pairs(x, model.decode(mu), 10, model.pixel_range)


@torch.no_grad()
def interpolations(model: Drawable, x: Tensor, num_rows: int = 8, num_columns: int = 10) -> Image.Image:
    """From image 2i to image 2i+1 of x [N,C,H,W] along row i, at most `num_rows`; a lone image goes to itself.

    The first and last columns are the images, those between the means decoded at z from one mu straight to the other.
    """
    x = x.repeat(2, 1, 1, 1) if len(x) == 1 else x[: 2 * min(num_rows, len(x) // 2)]
    mu, _ = model.encode(x)
    way = torch.linspace(0, 1, num_columns - 2, dtype=mu.dtype)
    z = torch.lerp(mu[::2, None], mu[1::2, None], way[:, None])
    means = model.decode(z.flatten(0, 1)).unflatten(0, z.shape[:2])
    rows = torch.cat([x[::2, None], means, x[1::2, None]], dim=1)
    return grid(rows.flatten(0, 1), num_columns, model.pixel_range)


@torch.no_grad()
def samples(model: Drawable, eps: Tensor, num_columns: int = 8) -> Image.Image:
    """Samples of the prior: the decoder's means at standard normal noise `eps` [N,L]."""
    return grid(model.decode(eps), num_columns, model.pixel_range)


@torch.no_grad()
def traversed(model: Drawable, dims: Sequence[int], num: int = 10, extent: float = 2.0) -> Tensor:
    """Means [N,C,H,W] where z[dims[0]] (down) and z[dims[1]] (across) go from -extent to extent, others 0.

    With one dim, or the same one twice, N = `num`, else num * num, row by row.
    """
    down, across = dims[0], dims[-1]
    steps = torch.linspace(-extent, extent, num)
    z = torch.zeros(num if down != across else 1, num, model.latent)
    if down != across:
        z[..., down] = steps[:, None]
    z[..., across] = steps
    return model.decode(z.flatten(0, 1))


def traversal(model: Drawable, dims: Sequence[int], num: int = 10, extent: float = 2.0) -> Image.Image:
    """The images of `traversed`, `num` across."""
    return grid(traversed(model, dims, num, extent), num, model.pixel_range)


@torch.no_grad()
def most_active(model: Drawable, x: Tensor, num: int = 2) -> list[int]:
    """At most `num` dims of the largest variance of mu over the images x [N,C,H,W], largest first, ties in order."""
    mu, _ = model.encode(x)
    return mu.var(dim=0, correction=0).argsort(descending=True, stable=True)[:num].tolist()


def neighbours(samples: Tensor, nearest: Tensor) -> Image.Image:
    """Samples [N,C,H,W], eight across, each above its nearest training image in `nearest` [N,C,H,W]; all in [0,1]."""
    return _grid_of_pairs(samples, nearest, 8, (0.0, 1.0))


def save_run_pictures(model: Drawable, x: Tensor, folder: Path, seed: int, how: Pictures) -> None:
    """Write {reconstructions,interpolations,samples,traversal}.png into `folder`; `seed` decides the samples.

    They show the first of the images x [N,C,H,W]; the traversal's dims are the first two, or those most active over
    all of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    eps = torch.randn(how.num_samples, model.latent, generator=generator("samples", seed))
    dims = most_active(model, x) if how.traversal_dims == "active" else [0, min(1, model.latent - 1)]
    save(reconstructions(model, x, how.num_reconstructions), folder / "reconstructions.png")
    save(interpolations(model, x), folder / "interpolations.png")
    save(samples(model, eps, how.columns), folder / "samples.png")
    save(traversal(model, dims, extent=how.traversal_extent), folder / "traversal.png")


def save(image: Image.Image, path: Path) -> None:
    """Write `image` as PNG, whole or not at all; a grey one has one channel."""
    channels = [channel.tobytes() for channel in image.split()]
    if image.mode == "RGB" and channels[0] == channels[1] == channels[2]:
        image = image.convert("L")
    content = io.BytesIO()
    # Measured on a run's four pictures: grey ones take 9 ms and 175 kB, at RGB and the default level 31 ms and 219 kB.
    image.save(content, format="PNG", compress_level=1)
    write_whole(path, content.getvalue())
