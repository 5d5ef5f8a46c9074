"""The tight loop of `torch_loops` with a compiled model, in a process of its own: the compiler needs much memory."""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as launch.py does, for all contestants

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.serving import Contestant, serve
from benchmarks.peers.torch_device import memory_of, set_precision
from benchmarks.peers.torch_loops import VAE, tight_loop


def compiled(model: VAE) -> Callable[[Tensor, Tensor], Tensor]:
    """The model's loss, compiled; on a GPU its forward and backward passes are graphs of CUDA (reduce-overhead)."""
    on_gpu = next(model.parameters()).is_cuda
    function = torch.compile(model, mode="reduce-overhead" if on_gpu else None)

    def loss_of(x: Tensor, eps: Tensor) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()  # gradients and loss of the step before may be overwritten
        return function(x, eps)

    return loss_of


def make(name: str, case: dict[str, Any], images: np.ndarray, k: int) -> Contestant:
    assert k == 1, "one model"
    torch.manual_seed(0)
    set_precision(case)
    return tight_loop(case, images, compiled)


if __name__ == "__main__":
    torch.set_flush_denormal(True)  # as vae_sweeps and JAX do
    serve(make, memory_of)
