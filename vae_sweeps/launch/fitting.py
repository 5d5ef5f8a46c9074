"""Refuse points that need more memory than there is, before anything is written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vae_sweeps.config.identity import short_name
from vae_sweeps.config.keys import as_typed
from vae_sweeps.config.launchers import SlurmLauncher
from vae_sweeps.config.schema import Point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.models.size import bytes_per_number, num_activations, num_params
from vae_sweeps.system import memory
from vae_sweeps.system.memory import in_gb

# How often a point's weights are held at once. In training: weights, gradients and Adam's two moments. In the memory of
# the machine also the weights that training began with, and, while a checkpoint is saved, a copy of weights and
# moments. Measured on a CPU with one MLP: 8.1 times the weights at 784-20000-10, 8.3 times at 784-40000-10.
_IN_TRAINING, _AT_START, _IN_CHECKPOINT = 4, 1, 3


@dataclass(frozen=True)
class Place:
    """Where points train: `num_bytes` of memory, in the words of an error, and in how many processes."""

    num_bytes: float
    words: str
    is_gpu: bool = False
    devices: int = 1


def check(
    points: Sequence[Point],
    datasets: Sequence[Dataset],
    device: torch.device,
    devices: int,
    cluster: SlurmLauncher | None,
) -> None:
    """Raise ValueError with the estimate and the memory there is, if one of the points cannot fit even alone."""
    places: dict[str, Place | None] = {}
    checked = set()
    for point, dataset in zip(points, datasets, strict=True):
        network = str(point.arch["_target_"])
        if network not in places:
            places[network] = _place_of(point, device, devices, cluster)
        sizes = [point.arch, point.likelihood, point.latent, point.batch_size, point.precision, dataset.fingerprint]
        key = repr(sizes)  # large sweeps have few
        if (place := places[network]) is not None and key not in checked:
            checked.add(key)
            _check_point(point, dataset, place)


def _place_of(point: Point, device: torch.device, devices: int, cluster: SlurmLauncher | None) -> Place | None:
    """Where the point would train; None for a job whose memory is not known here."""
    if cluster is not None:
        name = short_name(str(point.arch["_target_"]))
        own = cluster.resources.get(name, {})
        settings = {key: own.get(key, getattr(cluster, key)) for key in ("mem_gb", "gpus_per_node", "gres")}
        if settings["gpus_per_node"] or settings["gres"] or settings["mem_gb"] is None:
            return None
        key = f"hydra.launcher.resources.{name}.mem_gb" if "mem_gb" in own else "hydra.launcher.mem_gb"
        words = f"{key}={as_typed(settings['mem_gb'])} gives a job"
        return Place(settings["mem_gb"] * 2**30 * devices, words, devices=devices)
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        return Place(card.total_memory, f"{card.name} has", is_gpu=True, devices=devices)
    has_limit = memory.cgroup_limit() is not None
    words = "the limit of this process's cgroup is" if has_limit else "this machine has"
    return Place(memory.total_bytes(), words, devices=devices)


def _check_point(point: Point, dataset: Dataset, place: Place) -> None:
    """Raise ValueError with the estimate if a pack of this point alone cannot fit."""
    weights = _bytes_of_weights(point, dataset, place)
    if weights > place.num_bytes:
        key, value = _largest(point)
        raise _too_large(key, value, f"{in_gb(weights)} for weights, gradients, moments and checkpoints", place)
    outputs = _bytes_of_outputs(point, dataset, place)
    if weights + outputs > place.num_bytes:
        parts = f"{in_gb(outputs)} for the layers' outputs and {in_gb(weights)} for weights"
        raise _too_large("batch_size", point.batch_size, parts, place)


def _too_large(key: str, value: Any, parts: str, place: Place) -> ValueError:
    return ValueError(
        f"{key}={as_typed(value)}: one such point needs about {parts}, but {place.words} {in_gb(place.num_bytes)}; "
        f"use a smaller {key}, or more memory"
    )


def _bytes_of_weights(point: Point, dataset: Dataset, place: Place) -> float:
    copies = _IN_TRAINING if place.is_gpu else place.devices * (_IN_TRAINING + _AT_START) + _IN_CHECKPOINT
    return bytes_per_number(point) * copies * num_params(point, dataset.image_shape)


def _bytes_of_outputs(point: Point, dataset: Dataset, place: Place) -> float:
    """What is kept for the gradients, rather too low than too high."""
    batch_size = min(point.batch_size, dataset.num_images("train")) / (place.devices if place.is_gpu else 1)
    per_number = {"fp64": 8, "bf16": 2}.get(point.precision, 4)
    return per_number * batch_size * num_activations(point, dataset.image_shape)


def _largest(point: Point) -> tuple[str, Any]:
    """The key of the network that holds the largest number, which is most likely the one that is too large."""
    sizes = {f"arch.{name}": value for name, value in point.arch.items()} | {"latent": point.latent}
    return max(sizes.items(), key=lambda item: max(_numbers(item[1]), default=0))


def _numbers(value: Any) -> Iterable[int]:
    values = value if isinstance(value, list | tuple) else [value]
    return [number for number in values if isinstance(number, int) and not isinstance(number, bool)]
