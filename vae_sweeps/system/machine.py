"""The process that trains: its device, its settings, and the signals that ask it to stop."""

import contextlib
import ctypes
import os
import platform
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch


def resolve_device(name: str) -> torch.device:
    """`auto` is a GPU if there is one. Raises ValueError for a device that this machine has not."""
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        name = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    kind, _, index = name.partition(":")
    if kind not in available or (index and not index.isdigit()) or int(index or 0) >= available[kind]:
        has = [kind for kind, count in available.items() if count]
        raise ValueError(f"device={name}: not on this machine, which has {', '.join(has)}; use one of them or auto")
    return torch.device(name)


def check_devices(device: torch.device, devices: int, precisions: Collection[str]) -> None:
    """Raise ValueError where this machine has not so many devices of the kind, or none that computes so."""
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(f"devices={devices}: this machine has {torch.cuda.device_count()} GPUs; take at most so many")
    if device.type == "mps" and devices > 1:
        raise ValueError(f"devices={devices}: Apple's GPU is one; take devices=1, or device=cpu")
    if "tf32" in precisions and device.type != "cuda":
        raise ValueError(f"precision=tf32: needs an NVIDIA GPU, and this is {device.type}; take fp32 or bf16")


def memory_for_packs(device: torch.device) -> float:
    """Bytes that a pack may take: half of what the device has in all, so that a machine always gives the same packs."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2


def prepare() -> None:
    """Settings of the process under which the same point gives the same bits."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    _keep_memory(False)


@contextlib.contextmanager
def memory_kept(device: torch.device) -> Iterator[None]:
    """Memory that a step frees stays the process's for the next step; in the end it is given back.

    A pack's activations are some MB each; by default glibc returns such blocks to the kernel and faults their pages in
    again in every step (measured: 350 faults and a twelfth of the time of a step at K = 9).
    """
    _keep_memory(device.type == "cpu")
    try:
        yield
    finally:
        _keep_memory(False)


def _keep_memory(is_kept: bool) -> None:
    """Blocks of any size come from the heap, which does not shrink; or those of 1 MB and more from the kernel.

    What glibc does of itself, to keep more and more of the freed blocks, leaves gaps that blocks of other sizes do not
    fit into: a latent space's metrics ended with 3 GB of which 330 MB were in use (20,000 codes of 64 numbers).
    """
    if platform.libc_ver()[0] == "glibc":
        libc, m_trim_threshold, m_mmap_threshold = ctypes.CDLL(None), -1, -3
        libc.mallopt(m_mmap_threshold, 1 << (30 if is_kept else 20))
        libc.mallopt(m_trim_threshold, (1 << 31) - 1 if is_kept else 1 << 20)
        if not is_kept:
            libc.malloc_trim(0)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGINT or SIGTERM has come; a second one acts as if nobody listened."""
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
