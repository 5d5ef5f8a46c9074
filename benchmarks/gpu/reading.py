"""How fast a trained point decodes and encodes, and how fast a training step gets its images.

What it is told: the specification of a `case`, the `seconds` of a turn and the number of `turns`.
"""

import itertools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vae_sweeps.system import before_torch

before_torch.prepare()

import numpy as np
import torch

from benchmarks.gpu import scripts
from benchmarks.peers.serving import seconds_per_call, seconds_per_step
from benchmarks.peers.torch_device import waiting_for
from vae_sweeps.config.compose import compose_command
from vae_sweeps.data.batches import Batches
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.batching import images_at_once
from vae_sweeps.evaluation.model import from_state
from vae_sweeps.system import machine
from vae_sweeps.training.pack import new_start


def measure(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Images per second in each turn, in batches of evaluation and of training."""
    case = asked["case"]
    device, wait = torch.device(case["device"]), waiting_for(case)
    point, _ = compose_command(case["overrides"])
    images = torch.from_numpy(np.load(case["images"]))
    splits = {"train": images, "val": images[:1], "test": images[:1]}
    dataset = Dataset("benchmark", splits, None, "", pixel_range=tuple(case["pixel_range"]))
    model = from_state(point, new_start(point, dataset.image_shape).model, dataset.image_shape).to(device)
    size = images_at_once(dataset.image_shape)
    z = torch.randn(size, point.latent, device=device)
    x = torch.rand(size, *dataset.image_shape, device=device)

    def per_second(make: Callable[[], Any], num_images: int) -> list[float]:
        def run(num_calls: int) -> float:
            return seconds_per_call(make, num_calls, wait)

        run(3)  # warms up
        return [num_images / seconds_per_step(run, asked["seconds"]) for _ in range(asked["turns"])]

    def read(*, resident: bool) -> list[float]:
        batches = Batches(replace(dataset, resident=resident).to(device), point.batch_size, torch.float32)
        step = itertools.count()
        return per_second(lambda: batches(next(step)), point.batch_size)

    return [
        {"what": f"decode, {size} at once", "images_per_s": per_second(lambda: model.decode(z), size)},
        {"what": f"encode, {size} at once", "images_per_s": per_second(lambda: model.encode(x), size)},
        {"what": f"batches of {point.batch_size} from the device", "images_per_s": read(resident=True)},
        {"what": f"batches of {point.batch_size} from the CPU's memory", "images_per_s": read(resident=False)},
    ]


if __name__ == "__main__":
    logging.disable()
    machine.prepare()
    scripts.answer(measure)
