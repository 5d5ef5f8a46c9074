"""The device and the precision of the programs that use PyTorch."""

import contextlib
import gc
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.peers.serving import Memory, UnknownMemory


class CudaMemory:
    """The memory that PyTorch's allocator gives to tensors of this process, above what was taken at `begin`."""

    def __init__(self) -> None:
        torch.cuda.init()
        self._before = 0

    def begin(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        self._before = torch.cuda.memory_allocated()

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_allocated() - self._before


def memory_of(case: dict[str, Any]) -> Memory:
    return CudaMemory() if case["device"] == "cuda" else UnknownMemory()


def waiting_for(case: dict[str, Any]) -> Callable[[], None]:
    """A function that waits until the device has done all of its work; a CPU has no more to do."""
    return torch.cuda.synchronize if case["device"] == "cuda" else lambda: None


def set_precision(case: dict[str, Any]) -> None:
    """Whether products of float32 round their factors to 10 bits, in all of this process."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    matmul.allow_tf32 = cudnn.allow_tf32 = case["precision"] == "tf32"


def computing(case: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
    """What a forward pass is computed in: autocast for bf16, and nothing else otherwise."""
    if case["precision"] == "bf16":
        return torch.autocast(case["device"], torch.bfloat16)
    return contextlib.nullcontext()
