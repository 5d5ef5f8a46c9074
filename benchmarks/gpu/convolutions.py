"""Three ways to compute K convolutional networks: grouped convolutions, which packs use, and two others.

What it is told: the specification of a `case`, the number `k` of models, and the `seconds` and `turns`.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vae_sweeps.system import before_torch

before_torch.prepare()

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu import scripts
from benchmarks.peers.serving import seconds_per_call, seconds_per_step
from benchmarks.peers.torch_device import waiting_for
from vae_sweeps.config.compose import compose_command
from vae_sweeps.models.build import build_vae
from vae_sweeps.models.precision import computing
from vae_sweeps.models.stacking import put_point
from vae_sweeps.models.vae import VAE, elbo_terms
from vae_sweeps.system import machine
from vae_sweeps.training.graphs import beside, captured_by_cuda
from vae_sweeps.training.pack import new_start

_NUM_WARM_UP = 3


def measure(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The ms of a forward and a backward pass per model in each turn, of the same K networks; a graph on a GPU."""
    case, k, device = asked["case"], asked["k"], torch.device(asked["case"]["device"])
    point, shape = compose_command(case["overrides"])[0], tuple(case["shape"])
    points = [replace(point, seed=seed) for seed in range(k)]
    pixels = torch.from_numpy(np.load(case["images"])[: point.batch_size])
    x, eps = pixels.to(device).float() / 255, torch.randn(k, len(pixels), point.latent, device=device)
    pack, alone = build_vae(points, shape), [build_vae([one], shape) for one in points]
    state, start = pack.state_dict(), new_start(point, shape).model
    for i, vae in enumerate(alone):
        put_point(state, i, k, start)
        vae.load_state_dict(start)
    ways: dict[str, Callable[[], None]] = {
        "grouped": _passes([pack.to(device)], x, [eps]),
        "a loop over the models": _passes([vae.to(device) for vae in alone], x, list(eps.split(1))),
    }
    found = [_timed(asked, name, k, compute) for name, compute in ways.items()]
    last = torch.channels_last
    way = _passes([pack.to(memory_format=last)], x.to(memory_format=last), [eps])  # type: ignore[call-overload]
    return [*found, _timed(asked, "grouped, channels last", k, way)]


def _passes(models: list[VAE], x: Tensor, noises: list[Tensor]) -> Callable[[], None]:
    def compute() -> None:
        for vae, eps in zip(models, noises, strict=True):
            vae.zero_grad()
            with computing("fp32", x.device):
                terms = elbo_terms(vae, x, eps)
                (terms.kl - terms.log_px).mean(1).sum().backward()

    return compute


def _timed(asked: dict[str, Any], name: str, k: int, compute: Callable[[], None]) -> dict[str, Any]:
    device, wait = torch.device(asked["case"]["device"]), waiting_for(asked["case"])
    with beside(device):
        for _ in range(_NUM_WARM_UP):
            compute()
    if device.type == "cuda":
        compute = captured_by_cuda(device, compute)

    def run(num_calls: int) -> float:
        return seconds_per_call(compute, num_calls, wait)

    ms = [1e3 * seconds_per_step(run, asked["seconds"]) / k for _ in range(asked["turns"])]
    return {"what": f"{name}, K = {k}", "ms": ms}


if __name__ == "__main__":
    logging.disable()
    machine.prepare()
    scripts.answer(measure)
