"""Pictures of one run: reconstructions, samples, interpolations, a traversal, nearest neighbours."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vae_sweeps.config.schema import Pictures
from vae_sweeps.system.files import write_whole
from vae_sweeps.system.rng import generator

_BACKGROUND = 232  # between tiles; visible next to both black and white images
_GAP_PX, _BAND_GAP_PX = 2, 8
MIN_TILE_PX = 56
NAMES_PX = 20  # the margin of a traversal in which its latents are named


class Drawable(Protocol):
    """The part of a trained model that pictures use: CPU floats in and out, C is 1 or 3."""

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
    """Arrange `images` [N,C,H,W] row by row, clipped to `pixel_range`; small ones are enlarged by a whole factor."""
    return _grid_of_rows(images.split(num_columns), pixel_range)


def _grid_of_rows(rows: Sequence[Tensor], pixel_range: tuple[float, float], rows_per_band: int = 1) -> Image.Image:
    """Arrange rows of images, the first the longest; if `rows_per_band` > 1, a wider gap separates bands of rows."""
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
    """Convert [N,C,H,W] floats to [N,h,w,C] bytes, enlarged by one whole factor. NaN becomes the lowest value."""
    low, high = pixel_range
    unit = ((images.detach() - low) / (high - low)).nan_to_num(nan=0.0).clamp(0, 1)
    pixels = (255 * unit).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    factor = math.ceil(MIN_TILE_PX / max(images.shape[-2:]))
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2)


def _grid_of_pairs(above: Tensor, below: Tensor, num_columns: int, pixel_range: tuple[float, float]) -> Image.Image:
    """Place each image of `above` [N,C,H,W] directly above its partner in `below` [N,C,H,W], in bands."""
    bands = zip(above.split(num_columns), below.split(num_columns), strict=True)
    return _grid_of_rows([row for band in bands for row in band], pixel_range, rows_per_band=2)


@torch.no_grad()
def reconstructions(model: Drawable, x: Tensor, num: int = 40) -> Image.Image:
    """Show the first `num` images of x [N,C,H,W], ten per row, each above its reconstruction, decoded at z = mu."""
    x = x[:num]
    mu, _ = model.encode(x)
    return _grid_of_pairs(x, model.decode(mu), 10, model.pixel_range)


@torch.no_grad()
def interpolations(model: Drawable, x: Tensor, num_rows: int = 8, num_columns: int = 10) -> Image.Image:
    """Interpolate in row i from image 2i to image 2i+1 of x [N,C,H,W], in at most `num_rows` rows.

    The first and last columns are the images; between them are the decoder's means on a straight line from one mu to
    the other. A single image is paired with itself.
    """
    x = x.repeat(2, 1, 1, 1) if len(x) == 1 else x[: 2 * min(num_rows, len(x) // 2)]
    mu, _ = model.encode(x)
    weights = torch.linspace(0, 1, num_columns - 2, dtype=mu.dtype)
    z = torch.lerp(mu[::2, None], mu[1::2, None], weights[:, None])
    means = model.decode(z.flatten(0, 1)).unflatten(0, z.shape[:2])
    rows = torch.cat([x[::2, None], means, x[1::2, None]], dim=1)
    return grid(rows.flatten(0, 1), num_columns, model.pixel_range)


@torch.no_grad()
def samples(model: Drawable, eps: Tensor, num_columns: int = 8) -> Image.Image:
    """Draw samples from the prior: the decoder's means at standard normal noise `eps` [N,L]."""
    return grid(model.decode(eps), num_columns, model.pixel_range)


@torch.no_grad()
def traversed(model: Drawable, dims: Sequence[int], num: int = 10, extent: float = 2.0) -> Tensor:
    """Decode means [N,C,H,W] as z[dims[0]] (down) and z[dims[1]] (across) go from -extent to extent, all others 0.

    N is `num` with one dim, or the same one twice; otherwise it is num * num, row by row.
    """
    down, across = dims[0], dims[-1]
    steps = torch.linspace(-extent, extent, num)
    z = torch.zeros(num if down != across else 1, num, model.latent)
    if down != across:
        z[..., down] = steps[:, None]
    z[..., across] = steps
    return model.decode(z.flatten(0, 1))


def traversal(model: Drawable, dims: Sequence[int], num: int = 10, extent: float = 2.0) -> Image.Image:
    """Arrange the images of `traversed` with `num` per row."""
    return grid(traversed(model, dims, num, extent), num, model.pixel_range)


def named(picture: Image.Image, dims: Sequence[int], extent: float) -> Image.Image:
    """A traversal with the names of its latents beside it, and their values at both ends."""
    down, across = dims[0], dims[-1]
    left, below = (NAMES_PX, NAMES_PX) if down != across else (0, NAMES_PX)
    canvas = Image.new("RGB", (left + picture.width, picture.height + below), "white")
    canvas.paste(picture, (left, 0))
    canvas.paste(_axis(across, extent, picture.width), (left, picture.height))
    if left:  # read from the bottom to the top, as its values fall
        canvas.paste(_axis(down, -extent, picture.height).rotate(90, expand=True), (0, 0))
    return canvas


def _axis(dim: int, end: float, length: int) -> Image.Image:
    strip = Image.new("RGB", (length, NAMES_PX), "white")
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(size=NAMES_PX * 0.6)
    for anchor, x, text in (
        ("lm", 0.02 * length, f"{-end:g}"),
        ("mm", 0.5 * length, f"latent {dim}"),
        ("rm", 0.98 * length, f"{end:g}"),
    ):
        draw.text((x, NAMES_PX / 2), text, fill="black", font=font, anchor=anchor)
    return strip


@torch.no_grad()
def most_active(model: Drawable, x: Tensor, num: int = 2) -> list[int]:
    """At most `num` dims with the largest variance of mu over the images x [N,C,H,W], largest first, ties in order."""
    mu, _ = model.encode(x)
    return mu.var(dim=0, correction=0).argsort(descending=True, stable=True)[:num].tolist()


def neighbours(samples: Tensor, nearest: Tensor) -> Image.Image:
    """Show samples [N,C,H,W], eight per row, above their nearest training images `nearest` [N,C,H,W]; all in [0,1]."""
    return _grid_of_pairs(samples, nearest, 8, (0.0, 1.0))


def save_run_pictures(model: Drawable, x: Tensor, folder: Path, seed: int, settings: Pictures) -> None:
    """Write {reconstructions,interpolations,samples,traversal}.png to `folder`; `seed` determines the samples.

    Reconstructions and interpolations show the first images of x [N,C,H,W]. The traversal's dims are the first two, or
    the two that are most active over all images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    eps = torch.randn(settings.num_samples, model.latent, generator=generator("samples", seed))
    dims = most_active(model, x) if settings.traversal_dims == "active" else [0, min(1, model.latent - 1)]
    save(reconstructions(model, x, settings.num_reconstructions), folder / "reconstructions.png")
    save(interpolations(model, x), folder / "interpolations.png")
    save(samples(model, eps, settings.columns), folder / "samples.png")
    extent = settings.traversal_extent
    save(named(traversal(model, dims, extent=extent), dims, extent), folder / "traversal.png")


def save(image: Image.Image, path: Path) -> None:
    """Write `image` as PNG, completely or not at all; a grey image is saved with one channel."""
    channels = [channel.tobytes() for channel in image.split()]
    if image.mode == "RGB" and channels[0] == channels[1] == channels[2]:
        image = image.convert("L")
    content = io.BytesIO()
    # Measured on a run's four pictures: grey takes 9 ms and 175 kB; RGB at the default level takes 31 ms and 219 kB.
    image.save(content, format="PNG", compress_level=1)
    write_whole(path, content.getvalue())
