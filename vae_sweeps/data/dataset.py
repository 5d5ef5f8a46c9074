"""What training and evaluation read: a `Dataset` with three splits, and its batches."""

import hashlib
import os
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vae_sweeps.data.ahead import Ahead, gathered
from vae_sweeps.noise import generator

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Dataset:
    """Images of three splits, as bytes (or as floats that are already on the model's scale).

    `images[split]` is uint8 [N,C,H,W] or floating [N,C,H,W]; `labels[split]` is int64 [N], or `labels` is None.
    `pixel_range` is where bytes 0 and 255 go. `binarize` is none, static or dynamic; `seed` fixes the order of
    batches and the drawn bits. `fingerprint` is a hash of the content, not of the place it came from.

    `resident` is whether `to` copies the images into the device's memory: True, False, or auto, which does where they
    fit. Those that stay are read batch by batch; `device` is where batches go. `is_mapped` says that images are pages
    of a file, not memory of ours.
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

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images["train"].shape[1:]
        return channels, height, width

    def num_images(self, split: str) -> int:
        return self.images[split].shape[0]

    def to(self, device: torch.device) -> "Dataset":
        """The same data for models on `device`: its images are copied there, or stay where they are (`resident`)."""
        if self._is_to_move(device):
            copied = {split: images.to(device, copy=self.is_mapped) for split, images in self.images.items()}
            return replace(self, images=copied, device=device, is_mapped=False)
        return replace(self, device=device)

    def _is_to_move(self, device: torch.device) -> bool:
        if isinstance(self.resident, bool):
            return self.resident
        if device.type == "cpu":
            return not self.is_mapped  # the kernel keeps a file's pages in what memory is free
        num_bytes = sum(images.numel() * images.element_size() for images in self.images.values())
        return num_bytes <= _room_for_images(device)


def _room_for_images(device: torch.device) -> float:
    """Bytes of the device's memory that images may take: a quarter of all and half of what is free."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return min(total / 4, free / 2)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4


def fingerprint(images: dict[str, Tensor], labels: dict[str, Tensor] | None) -> str:
    """The first 16 hex digits of a sha256 over shapes, types and bytes of all splits."""
    digest = hashlib.sha256()
    for tensors in (images, labels or {}):
        for split in SPLITS:
            if split in tensors:
                tensor = tensors[split].contiguous()
                digest.update(f"{split}{tuple(tensor.shape)}{tensor.dtype}".encode())
                digest.update(tensor.numpy().data)
    return digest.hexdigest()[:16]


def binarized(images: Tensor, uniform: Float[Tensor, "*shape"]) -> Tensor:
    """Bytes 0 or 255, each 255 with probability byte / 255 (Salakhutdinov & Murray 2008)."""
    return (uniform * 255 < images).to(torch.uint8).mul_(255)


def with_fixed_bits(dataset: Dataset) -> Dataset:
    """Draw the bits that stay: of every split for `static`, of val and test for `dynamic`, none for `none`.

    Under `dynamic` the training split keeps its grey values and is drawn anew for every batch (Burda et al. 2015).
    """
    if dataset.binarize == "none":
        return dataset
    splits = SPLITS if dataset.binarize == "static" else ("val", "test")
    images = dict(dataset.images)
    for split in splits:
        uniform = torch.rand(images[split].shape, generator=generator("bits", dataset.seed, split))
        images[split] = binarized(images[split], uniform)
    return replace(dataset, images=images)


def to_model(dataset: Dataset, images: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes as the model sees them: 0 and 255 become the two ends of `pixel_range`. Floats only change type."""
    if images.is_floating_point():
        return images.to(dtype)
    low, high = dataset.pixel_range
    scaled = images.to(dtype).mul_((high - low) / 255)
    return scaled.add_(low) if low else scaled


def in_unit_range(images: Tensor, pixel_range: tuple[float, float]) -> Tensor:
    """Bytes, or floats on a model's scale, as floats of [0,1]: what lies outside is clipped, as a screen would."""
    if not images.is_floating_point():
        return images.float().div_(255)
    low, high = pixel_range
    return ((images - low) / (high - low)).clamp(0, 1)


def identity(dataset: Dataset) -> list[str | int]:
    """What decides an evaluation's images in [0,1], for the keys of caches."""
    drawn = [] if dataset.binarize == "none" else [dataset.binarize, dataset.seed]
    scaled = map(str, dataset.pixel_range) if dataset.images["train"].is_floating_point() else []
    return [dataset.fingerprint, *scaled, *drawn]


def epoch_order(num_images: int, seed: int, epoch: int) -> Int[Tensor, " N"]:
    """The order of the training images in `epoch`: a pure function of its arguments."""
    return torch.randperm(num_images, generator=generator("order", seed, epoch))


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Batches in an epoch; the last one may be smaller, and is used."""
    return -(-num_images // batch_size)


class Batches:
    """Training batches by step: `batches(step)` is a pure function of (dataset, batch size, step).

    Keeps the current epoch's order on the images' device; any step may be asked for next. Where the images are not in
    the memory of the device that trains, the next batches are gathered in a thread.
    """

    def __init__(self, dataset: Dataset, batch_size: int, dtype: torch.dtype) -> None:
        self.dataset, self.batch_size, self.dtype = dataset, batch_size, dtype
        self.images = dataset.images["train"]
        self.device = dataset.device or self.images.device
        self.steps_per_epoch = steps_per_epoch(len(self.images), batch_size)
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)
        # A device without an index is the current one of its kind, where the images then are.
        is_elsewhere = self.images.device.type != self.device.type
        self._ahead = Ahead(self._gathered) if is_elsewhere or dataset.is_mapped else None

    def size(self, step: int) -> int:
        """The number of images in the batch of step `step`."""
        return min(self.batch_size, len(self.images) - step % self.steps_per_epoch * self.batch_size)

    def __call__(self, step: int) -> Tensor:
        """Images [b,C,H,W] of step `step` (from 0) on the model's scale; b < batch size in an epoch's last step."""
        if self._ahead is None:
            images = self.images[self._indices(step)]
        else:
            images = self._ahead(step).to(self.device, non_blocking=True)
        if self.dataset.binarize == "dynamic":
            draw = generator("bits", self.dataset.seed, "train", step, device=images.device)
            images = binarized(images, torch.rand(images.shape, generator=draw, device=images.device))
        return to_model(self.dataset, images, self.dtype)

    def _indices(self, step: int) -> Int[Tensor, " b"]:
        epoch, i = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            order = epoch_order(len(self.images), self.dataset.seed, epoch)
            self._epoch, self._order = epoch, order.to(self.images.device)
        return self._order[i * self.batch_size : (i + 1) * self.batch_size]

    def _gathered(self, step: int) -> Tensor:
        return gathered(self.images, self._indices(step), is_pinned=self.device.type == "cuda")


def for_evaluation(dataset: Dataset, split: str) -> Tensor:
    """A split's images (bytes, or floats) as every evaluation sees them: with fixed bits if pixels are binarized."""
    images = dataset.images[split]
    if dataset.binarize == "dynamic" and split == "train":
        draw = generator("bits", dataset.seed, "train")
        return binarized(images, torch.rand(images.shape, generator=draw).to(images.device))
    return images
