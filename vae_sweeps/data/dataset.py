"""`Dataset`, the images of three splits that training and evaluation read, and the scales of its pixels."""

import hashlib
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vae_sweeps.data.factors import Factors, digest_of
from vae_sweeps.data.remembered import Stamp
from vae_sweeps.system.memory import memory_bytes
from vae_sweeps.system.rng import generator

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Dataset:
    """Images of three splits, as bytes (or as floats that are already on the model's scale).

    `images[split]` is uint8 [N,C,H,W] or floating [N,C,H,W]; `labels[split]` is int64 [N], or `labels` is None.
    `pixel_range` holds the values that bytes 0 and 255 become. `binarize` is none, static, dynamic or larochelle (the
    images consist of bits already). `seed` fixes the order of batches and the bits drawn for a batch, `binarize_seed`
    the bits that are drawn once. `fingerprint` is a hash of the content and does not depend on its location.
    `trains_on_all` is whether the training split contains the images of the other splits. `factors` are the factors of
    variation that generated the images, on the CPU, or None if they are not known.

    `resident` is whether `to` copies the images into the device's memory: True, False, or auto, which copies them if
    they fit. Otherwise they are read batch by batch; `device` is where batches go. `is_mapped` is whether the images
    are mapped from a file rather than held in memory.

    `files` are stamps of the files that hold the data, made before they were read: none if the data are drawn, and None
    if the files are many or not known. A launch with nothing to do does not read data whose files are unchanged.
    """

    name: str
    images: dict[str, Tensor]
    labels: dict[str, Tensor] | None
    fingerprint: str
    pixel_range: tuple[float, float] = (0.0, 1.0)
    binarize: str = "none"
    seed: int = 0
    resident: bool | str = "auto"
    is_mapped: bool = False
    device: torch.device | None = None
    binarize_seed: int = 0
    trains_on_all: bool = False
    files: tuple[Stamp, ...] | None = None
    factors: Factors | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images["train"].shape[1:]
        return channels, height, width

    def num_images(self, split: str) -> int:
        return self.images[split].shape[0]

    def describe(self) -> str:
        """One line: the name, the sizes of the splits, the shape of the images, the number of classes, factors."""
        sizes = ", ".join(f"{self.num_images(split):,} {split}" for split in SPLITS)
        shape = "x".join(map(str, self.image_shape))
        classes = "no labels" if self.labels is None else f"{len(self.labels['train'].unique())} classes"
        factors = "" if self.factors is None else f", factors {', '.join(self.factors.names)}"
        return f"{self.name}: {sizes} images of {shape}, {classes}{factors}"

    def to(self, device: torch.device) -> "Dataset":
        """The same data for models on `device`; `resident` decides whether the images are copied there."""
        if self._should_copy_to(device):
            copied = {split: images.to(device, copy=self.is_mapped) for split, images in self.images.items()}
            return replace(self, images=copied, device=device, is_mapped=False)
        return replace(self, device=device)

    def _should_copy_to(self, device: torch.device) -> bool:
        if isinstance(self.resident, bool):
            return self.resident
        if device.type == "cpu":
            return not self.is_mapped  # the kernel caches a file's pages in free memory
        num_bytes = sum(images.numel() * images.element_size() for images in self.images.values())
        return num_bytes <= _room_for_images(device)


def _room_for_images(device: torch.device) -> float:
    """The bytes of memory that images may take: at most a quarter, and on a GPU at most half of what is free."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return min(total / 4, free / 2)
    return memory_bytes() / 4


def fingerprint(images: dict[str, Tensor], labels: dict[str, Tensor] | None, factors: Factors | None = None) -> str:
    """The first 16 hex digits of a sha256 over shapes, types and bytes of all splits, and the factors if there are."""
    digest = hashlib.sha256()
    for tensors in (images, labels or {}):
        for split in SPLITS:
            if split in tensors:
                tensor = tensors[split].contiguous()
                digest.update(f"{split}{tuple(tensor.shape)}{tensor.dtype}".encode())
                digest.update(tensor.numpy().data)
    if factors is not None:
        digest.update(digest_of(factors))
    return digest.hexdigest()[:16]


def binarized(images: Tensor, uniform: Float[Tensor, "*shape"]) -> Tensor:
    """Bytes 0 or 255, each 255 with probability byte / 255 (Salakhutdinov & Murray 2008)."""
    return (uniform * 255 < images).to(torch.uint8).mul_(255)


def with_fixed_bits(dataset: Dataset) -> Dataset:
    """Draw the bits that never change: of every split for `static`, of val and test for `dynamic`, else none.

    With `dynamic` the training split keeps its grey values, and each batch draws new bits (Burda et al. 2015).
    """
    if dataset.binarize in ("none", "larochelle"):
        return dataset
    splits = SPLITS if dataset.binarize == "static" else ("val", "test")
    images = dict(dataset.images)
    for split in splits:
        uniform = torch.rand(images[split].shape, generator=generator("bits", dataset.binarize_seed, split))
        images[split] = binarized(images[split], uniform)
    return replace(dataset, images=images)


def to_model(dataset: Dataset, images: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert bytes to the model's scale: 0 and 255 become the ends of `pixel_range`. Floats only change type."""
    if images.is_floating_point():
        return images.to(dtype)
    low, high = dataset.pixel_range
    scaled = images.to(dtype).mul_((high - low) / 255)
    return scaled.add_(low) if low else scaled


def in_unit_range(images: Tensor, pixel_range: tuple[float, float]) -> Tensor:
    """Convert bytes, or floats on a model's scale, to floats in [0,1]; values outside are clipped, as on a screen."""
    if not images.is_floating_point():
        return images.float().div_(255)
    low, high = pixel_range
    return ((images - low) / (high - low)).clamp(0, 1)


def identity(dataset: Dataset) -> list[str | int]:
    """Everything that determines an evaluation's images in [0,1], for the keys of caches."""
    drawn = [] if dataset.binarize == "none" else [dataset.binarize, dataset.binarize_seed]
    scaled = map(str, dataset.pixel_range) if dataset.images["train"].is_floating_point() else []
    return [dataset.fingerprint, *scaled, *drawn]


def for_evaluation(dataset: Dataset, split: str) -> Tensor:
    """A split's images (bytes, or floats) as every evaluation sees them: with fixed bits if pixels are binarized."""
    images = dataset.images[split]
    if dataset.binarize == "dynamic" and split == "train":
        draw = generator("bits", dataset.binarize_seed, "train")
        return binarized(images, torch.rand(images.shape, generator=draw).to(images.device))
    return images
