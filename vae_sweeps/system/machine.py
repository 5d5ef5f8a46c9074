"""The device, settings and stop signals of a training process."""

import contextlib
import ctypes
import gc
import os
import platform
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from vae_sweeps.system import cpus, distributed, gpus, memory


def resolve_device(name: str) -> torch.device:
    """Return the named device; `auto` is a GPU if there is one. Raises ValueError if this machine does not have it."""
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        name = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    kind, _, index = name.partition(":")
    if kind not in available or (index and not index.isdigit()) or int(index or 0) >= available[kind]:
        has = [kind for kind, count in available.items() if count]
        raise ValueError(f"device={name}: not on this machine, which has {', '.join(has)}; use one of them or auto")
    return torch.device(name)


def visible_gpus() -> list[str]:
    """The names of the GPUs that processes on this machine may be given through CUDA_VISIBLE_DEVICES."""
    return gpus.visible(os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count())


def check_devices(device: torch.device, devices: int, precisions: Collection[str]) -> None:
    """Raise ValueError if this machine has too few devices, or if they do not support a precision."""
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(f"devices={devices}: must be at most {torch.cuda.device_count()}, the GPUs of this machine")
    if device.type == "mps" and devices > 1:
        raise ValueError(f"devices={devices}: must be 1 with device=mps; or use device=cpu")
    if "tf32" in precisions and device.type != "cuda":
        raise ValueError(f"precision=tf32: needs an NVIDIA GPU, but the device is {device.type}; use fp32 or bf16")


def memory_for_packs(device: torch.device) -> float:
    """Bytes that a pack may use: half of the total (not free) memory, so that a machine always forms the same packs.

    In a cgroup with a limit, as containers and jobs have, that is half of the limit.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2
    return memory.memory_bytes() / 2


@dataclass(frozen=True)
class Occupied:
    """What a job occupies over all its processes: so many GPUs, or so many CPU cores where it does not use a GPU."""

    kind: Literal["gpu", "core"]
    count: int


def occupied(device: torch.device) -> Occupied:
    """What the processes that train together on devices like this one occupy."""
    if device.type == "cpu":
        return Occupied("core", distributed.num_ranks() * torch.get_num_threads())
    return Occupied("gpu", distributed.num_ranks())


def num_threads() -> int:
    """The threads that a process may use: those of torch, which knows OMP_NUM_THREADS, and no more than CPUs."""
    return min(torch.get_num_threads(), cpus.usable())


# Smaller blocks than these, in bytes, are kept when they are freed. A pack needs blocks of the same sizes in each step.
# The fit of a mixture needs blocks of many sizes: with 16 MB, 20,000 codes of 64 numbers took 1.4 GB instead of 0.4 GB.
_KEPT_IN_TRAINING, _KEPT_IN_EVALUATION, _KEPT_ELSEWHERE = 1 << 30, 12 << 20, 1 << 20


def prepare() -> None:
    """Configure the process: the same point gives bit-identical results, on no more threads than there are CPUs."""
    torch.set_num_threads(num_threads())
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    _keep_memory(_KEPT_ELSEWHERE)
    with denormals_flushed():
        torch.ones(torch.get_num_threads() << 16)  # starts OpenMP's threads


@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    """Compute with 0 in place of numbers below 1e-38, in this thread and, for good, in those that it starts meanwhile.

    Where gradients have become 0, as those of dead units and of pixels that are almost always black, Adam's averages
    decay to such numbers, which slow down processors (measured on an Intel Xeon, for one network of 784-100-100 in the
    course of 2,500 steps: an update took 0.63 ms, and takes 0.25 ms).
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextlib.contextmanager
def memory_kept(device: torch.device, purpose: Literal["training", "evaluation"] = "training") -> Iterator[None]:
    """Keep the memory that one step frees for the next, and return it to the kernel at the end.

    The arrays of a step take some MB each. By default glibc returns such blocks to the kernel when they are freed, and
    page faults bring them back (measured: 350 faults and a twelfth of the time of a step at K = 9; half of the time of
    fitting a mixture to 3,500 codes of 128 numbers; a seventh of the time of a sweep of one epoch, by its ELBOs).
    """
    kept = _KEPT_IN_TRAINING if purpose == "training" else _KEPT_IN_EVALUATION
    _keep_memory(kept if device.type == "cpu" else _KEPT_ELSEWHERE)
    try:
        yield
    finally:
        _keep_memory(_KEPT_ELSEWHERE)


def return_memory() -> None:
    """Return to the kernel, and to other processes on the GPU, the memory of packs that have ended.

    A pack is part of a cycle of references, and `memory_kept` ends while it still exists. Without this it counts as
    taken when the next pack begins (measured: 0.16 GB for one point of 6.4 million weights).
    """
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    _keep_memory(_KEPT_ELSEWHERE)


def _keep_memory(up_to: int) -> None:
    """Take blocks of less than `up_to` bytes from a heap that does not shrink, and larger ones from the kernel.

    By default glibc raises this threshold whenever such a block is freed, and the heap becomes fragmented: the metrics
    of a latent space (20,000 codes of 64 numbers) ended with 3 GB, of which 330 MB were in use.
    """
    if platform.libc_ver()[0] == "glibc":
        libc, m_trim_threshold, m_mmap_threshold = ctypes.CDLL(None), -1, -3
        libc.mallopt(m_mmap_threshold, up_to)
        libc.mallopt(m_trim_threshold, 1 << 20 if up_to == _KEPT_ELSEWHERE else (1 << 31) - 1)
        if up_to == _KEPT_ELSEWHERE:
            libc.malloc_trim(0)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether SIGINT or SIGTERM was received; a second signal acts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    received: list[int] = []
    previous: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: Any) -> None:
        received.append(number)
        signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, note)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
