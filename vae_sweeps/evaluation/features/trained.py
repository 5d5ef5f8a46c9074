"""Features for images with labels: a small convolutional classifier, trained once for each dataset and cached."""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps.data.dataset import Dataset, for_evaluation, identity, in_unit_range
from vae_sweeps.evaluation.features.base import Extractor, Features, Standardised, weights_hash
from vae_sweeps.system import cache, machine
from vae_sweeps.system.rng import generator

log = logging.getLogger(__name__)

_WIDTH, _STEPS, _BATCH_SIZE, _PEAK_LR = 64, 1000, 100, 4e-3
# Part of the cache's key: raise the version when you change how the classifier is trained.
_RECIPE = {"version": 1, "width": _WIDTH, "steps": _STEPS, "batch_size": _BATCH_SIZE, "peak_lr": _PEAK_LR}


class Classifier(nn.Module):
    """Images [N,C,H,W] in [0,1], of any size -> penultimate activations [N,64]; `head` turns them into logits."""

    def __init__(self, num_channels: int, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(num_channels, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(7),  # changes nothing at 28 x 28
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, _WIDTH),
            nn.SiLU(),
        )
        self.head = nn.Linear(_WIDTH, num_classes)

    def forward(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N 64"]:
        return self.body(images)


def classifier(dataset: Dataset) -> Features:
    """Standardised penultimate activations of the dataset's classifier. Raises ValueError if it has no labels."""
    if dataset.labels is None:
        raise ValueError(
            f"evaluation/features=classifier: must not be chosen for images without labels, as in {dataset.name}; "
            "choose random or inception"
        )
    return Features("classifier", _WIDTH, lambda: _load(dataset))


def _load(dataset: Dataset) -> Extractor:
    stored = cache.once("classifier", {"data": identity(dataset), "recipe": _RECIPE}, lambda: _train(dataset))
    module = Standardised(_untrained(dataset), _WIDTH)
    module.load_state_dict(stored["weights"])
    return Extractor(module.eval().requires_grad_(False), weights_hash(module), stored["accuracy"])


def _untrained(dataset: Dataset) -> Classifier:
    """A classifier with its initial weights."""
    assert dataset.labels is not None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Classifier(dataset.image_shape[0], int(dataset.labels["train"].max()) + 1)


def _train(dataset: Dataset) -> dict[str, Any]:
    """Train on the CPU for a fixed number of steps from a fixed seed, with one cycle of the learning rate."""
    began = time.monotonic()
    log.info("%s: training the classifier for FID's features; it is then cached", dataset.name)
    assert dataset.labels is not None
    images, labels = for_evaluation(dataset, "train"), dataset.labels["train"].cpu()
    module = _untrained(dataset)
    optim = torch.optim.Adam(module.parameters(), lr=_PEAK_LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optim, _PEAK_LR, total_steps=_STEPS)
    with _one_thread(), machine.memory_kept(torch.device("cpu"), "evaluation"):
        for step in range(_STEPS):
            batch = torch.randint(len(labels), (_BATCH_SIZE,), generator=generator("classifier", step))
            x = images[batch.to(images.device)].cpu()
            logits = module.head(module(in_unit_range(x, dataset.pixel_range)))
            optim.zero_grad()
            F.cross_entropy(logits, labels[batch]).backward()
            optim.step()
            schedule.step()
    accuracy = _accuracy(module, dataset)
    log.info("%s: test accuracy %.2f %% (%.1f s)", dataset.name, 100 * accuracy, time.monotonic() - began)
    return {"weights": dict(Standardised(module, _WIDTH).fit(dataset).state_dict()), "accuracy": accuracy}


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: the weights must not depend on the number of cores, and the network is too small to gain."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


@torch.inference_mode()
def _accuracy(module: Classifier, dataset: Dataset) -> float:
    assert dataset.labels is not None
    images, labels = for_evaluation(dataset, "test"), dataset.labels["test"].cpu()
    num_right = 0
    for x, y in zip(images.split(250), labels.split(250), strict=True):
        num_right += int((module.head(module(in_unit_range(x.cpu(), dataset.pixel_range))).argmax(1) == y).sum())
    return num_right / len(labels)
