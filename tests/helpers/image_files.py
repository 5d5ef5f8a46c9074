"""Small folders of image files for tests, and the loaders with the defaults of conf/."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from PIL import Image

from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.faces import celeba
from vae_sweeps.data.folder import image_folder

CONF = Path(__file__).parents[2] / "conf" / "data"


def pixels(seed: int, height: int = 8, width: int = 8, channels: int = 3) -> np.ndarray:
    """Random bytes [H,W,C], or [H,W] for one channel."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(folder: Path, names: list[str], **size: int) -> Path:
    """Write a random image, told from the others, under each name."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(seed, **size)).save(folder / name)
    return folder


def load_folder(root: Path, cache: Path | None, **more: Any) -> Dataset:
    return _load(image_folder, "image_folder", root, cache, more)


def load_celeba(root: Path, cache: Path | None, **more: Any) -> Dataset:
    return _load(celeba, "celeba", root, cache, more)


def _load(function: Callable[..., Dataset], choice: str, root: Path, cache: Path | None, more: Any) -> Dataset:
    settings = OmegaConf.to_container(OmegaConf.load(CONF / f"{choice}.yaml"))
    assert isinstance(settings, dict)
    keys = {str(name): value for name, value in settings.items() if name not in ("defaults", "_target_")}
    return function(**(keys | {"root": str(root), "cache": None if cache is None else str(cache)} | more))


def contents(dataset: Dataset) -> dict[str, set[bytes]]:
    """The images of each split."""
    return {split: {image.numpy().tobytes() for image in dataset.images[split]} for split in SPLITS}
