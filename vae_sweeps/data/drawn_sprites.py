"""Sprites that are drawn here: a small set in the manner of dSprites (Matthey et al. 2017), without a download."""

from collections.abc import Iterator
from typing import Unpack

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.factorial import Factorial, FactorialOptions, factorial_dataset
from vae_sweeps.data.factors import all_combinations

_VERSION = 1  # increase it when a change of the code changes the bytes

_SHAPES = ("square", "ellipse", "triangle")
_SCALES = np.linspace(0.6, 1, 8)
# A square turned by 90 degrees is the same square.
_ANGLES = np.linspace(0, np.pi / 2, 17, endpoint=False)
_NUM_PLACES = 16
_NAMES = ("shape", "scale", "orientation", "x", "y")
_SIZES = (len(_SHAPES), len(_SCALES), len(_ANGLES), _NUM_PLACES, _NUM_PLACES)

# The centre is not on a pixel's centre or corner, where small turns would leave all pixels as they are. With these
# numbers each sprite differs from all others, and no pixel is so near to an edge that rounding could change it.
_CENTRE = (0.25, 0.45)
_RADIUS = 8  # of the circle around a sprite of scale 1, in pixels of an image of 32


def sprites(size: int, **options: Unpack[FactorialOptions]) -> Dataset:
    """White shapes on black, `size` x `size` pixels (32 or 64) of 0 or 255, drawn once into the cache.

    The factors are shape (square, ellipse, triangle), scale (8 values from 0.6 to 1), orientation (17 in steps of 90/17
    degrees), x and y (16 each, in steps of a 32nd of the width): 104,448 images, all different, of which `num_images`
    are used. Labels are shapes.
    """
    table = all_combinations(_NAMES, _SIZES)
    source = Factorial("sprites", table, (1, size, size), lambda: _blocks(size), recipe=[_VERSION, size])
    return factorial_dataset(source, **options)


def _blocks(size: int) -> Iterator[UInt8[np.ndarray, "n 1 size size"]]:
    """A sprite at all places, for each shape, scale and orientation."""
    step = size // 32
    for shape in _SHAPES:
        for scale in _SCALES:
            for angle in _ANGLES:
                sprite = draw(shape, scale, angle, step) * np.uint8(255)
                block = np.zeros((_NUM_PLACES, _NUM_PLACES, size, size), np.uint8)
                for i in range(_NUM_PLACES):
                    for j in range(_NUM_PLACES):
                        x, y = i * step, j * step
                        block[i, j, y : y + len(sprite), x : x + len(sprite)] = sprite
                yield block.reshape(-1, 1, size, size)


def draw(shape: str, scale: float, angle: float, step: int) -> Bool[np.ndarray, "side side"]:
    """The pixels whose centres lie in the shape, turned by `angle` in radians; the side is 16 `step` pixels."""
    radius = _RADIUS * step
    pixels = np.arange(-radius, radius)
    x, y = np.meshgrid(pixels + _CENTRE[0], pixels + _CENTRE[1])
    u = (np.cos(angle) * x + np.sin(angle) * y) / (scale * radius)
    v = (np.cos(angle) * y - np.sin(angle) * x) / (scale * radius)
    return _distance(shape, u, v) < 1


def _distance(shape: str, u: Float64[np.ndarray, "*n"], v: Float64[np.ndarray, "*n"]) -> Float64[np.ndarray, "*n"]:
    """A gauge of points: 1 on the edge of the shape, which touches the unit circle, and less inside."""
    if shape == "square":
        return np.sqrt(2) * np.maximum(abs(u), abs(v))
    if shape == "ellipse":
        return np.hypot(u, 2 * v)
    return np.maximum.reduce([2 * v, np.sqrt(3) * u - v, -np.sqrt(3) * u - v])  # equilateral, as three half-planes
