"""How long the parts of a point's evaluation take. The point has its initial weights, which take as long as others.

What it is told: the specification of a `case` on digits, the number of `turns`, and further `overrides`, if any.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from vae_sweeps.system import before_torch

before_torch.prepare()

import torch

from benchmarks.gpu import scripts
from vae_sweeps.config.compose import compose_command
from vae_sweeps.evaluation.metrics.elbo import evaluate_split
from vae_sweeps.evaluation.model import from_state
from vae_sweeps.evaluation.model_outputs import ModelOutputs
from vae_sweeps.evaluation.parts import PARTS
from vae_sweeps.evaluation.reference import new_reference
from vae_sweeps.system import machine
from vae_sweeps.training.pack import new_start


def measure(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Seconds of each turn. What all points share, such as the classifier of FID's features, is computed before."""
    case = asked["case"]
    further = ["data=mnist5k", "evaluation=full", *asked.get("overrides", [])]  # data that need no network
    point, options = compose_command([*case["overrides"], *further])
    reference = new_reference(point, options.evaluation, torch.device(case["device"]))
    shape = reference.dataset.image_shape
    model = from_state(point, new_start(point, shape).model, shape).to(case["device"])
    how, num_test = reference.how, reference.dataset.num_images("test")

    def elbo(outputs: ModelOutputs) -> None:
        vae, dtype = outputs.model.vae, outputs.model.dtype
        evaluate_split(vae, outputs.dataset, "test", seed=how.seed, batch_size=how.batch_size, dtype=dtype)

    def frechet(outputs: ModelOutputs) -> None:
        reference.compare("fid", outputs.features("prior"))

    parts: dict[str, Callable[[ModelOutputs], Any]] = {
        f"ELBO of {num_test:,} test images": elbo,
        f"importance-weighted bound of {num_test:,} test images, {how.iwae_samples} samples": PARTS["likelihood"],
        f"features and FID of {reference.num_images:,} samples": frechet,
        f"nearest training images of {how.neighbours:,} samples": PARTS["neighbours"],
    }
    found = []
    for what, part in parts.items():
        seconds = []
        for _ in range(1 + asked["turns"]):
            outputs = ModelOutputs(model, reference)
            began = time.perf_counter()
            part(outputs)  # its numbers are on the CPU: nothing is left to wait for
            seconds.append(time.perf_counter() - began)
        found.append({"what": what, "seconds": seconds[1:]})
    return found


if __name__ == "__main__":
    logging.disable()
    machine.prepare()
    scripts.answer(measure)
