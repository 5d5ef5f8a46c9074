"""The published set-ups as tests need them: their points, and the images that they are for."""

from hydra.core.config_store import ConfigStore

from tests.conftest import ROOT, make_point
from vae_sweeps.schema import Point

SHAPES = {
    "mnist_textbook": (1, 28, 28),
    "mnist_beta": (1, 28, 28),
    "mnist_conv": (1, 28, 28),
    "celeba_tf1": (3, 128, 128),
    "celeba_conv": (3, 64, 64),
}
RANGES = {"celeba_tf1": (-1.0, 1.0)}
CELEBA_KEYS = {"_target_": "vae_sweeps.data.celeba.celeba", "crop": "none", "size": 64, "pixel_range": [0, 1]}


def point_of(experiment: str, *overrides: str) -> Point:
    if not (ROOT / "conf/data/celeba.yaml").exists():
        ConfigStore.instance().store(group="data", name="celeba", node=CELEBA_KEYS)
    return make_point(f"experiment={experiment}", *overrides)
