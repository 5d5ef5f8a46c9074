"""The published set-ups as tests need them: their points, and the images that they are for."""

from tests.conftest import make_point
from vae_sweeps.config.schema import Point

SHAPES = {
    "mnist_textbook": (1, 28, 28),
    "mnist_beta": (1, 28, 28),
    "mnist_conv": (1, 28, 28),
    "celeba_tf1": (3, 128, 128),
    "celeba_conv": (3, 64, 64),
    "celeba_conv_narrow": (3, 64, 64),
}
RANGES = {"celeba_tf1": (-1.0, 1.0)}


def point_of(experiment: str, *overrides: str) -> Point:
    return make_point(f"experiment={experiment}", *overrides)
