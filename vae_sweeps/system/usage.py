"""What this process uses of its device: memory, and how busy the device is."""

import contextlib
import time
from pathlib import Path
from typing import NamedTuple

import torch

from vae_sweeps.system import memory


class Usage(NamedTuple):
    """Memory in bytes, and the utilisation in percent; None where it is not known."""

    memory_bytes: float | None = None
    memory_total_bytes: float | None = None
    utilisation: float | None = None


def device_name(device: torch.device) -> str:
    """The name of a GPU's or of this machine's processor's model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        with contextlib.suppress(OSError, StopIteration):
            lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
            name = next(line for line in lines if line.startswith("model name")).partition(":")[2]
            return " ".join(name.split()) or "CPU"
        return "CPU"
    return device.type


class Meter:
    """Measures what this process uses of `device`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last_s, self._last_cpu_s = time.monotonic(), time.process_time()

    def measure(self) -> Usage:
        """The present use. The utilisation of a CPU is that of this process's cores since the last call.

        The numbers of a GPU are those of the whole GPU, whoever uses it. Its utilisation needs nvidia-ml-py.
        """
        if self._device.type == "cuda":
            return self._of_gpu()
        return self._of_cpu() if self._device.type == "cpu" else Usage()

    def _of_gpu(self) -> Usage:
        free, total = torch.cuda.mem_get_info(self._device)
        utilisation = None
        # Without nvidia-ml-py, for a part of a GPU (MIG) and in some containers, the driver does not tell.
        with contextlib.suppress(Exception):
            utilisation = float(torch.cuda.utilization(self._device))
        return Usage(total - free, total, utilisation)

    def _of_cpu(self) -> Usage:
        now_s, cpu_s = time.monotonic(), time.process_time()
        wall_s = now_s - self._last_s
        utilisation = 100 * (cpu_s - self._last_cpu_s) / wall_s / torch.get_num_threads() if wall_s >= 1 else None
        if utilisation is not None:
            self._last_s, self._last_cpu_s = now_s, cpu_s
        return Usage(memory.resident_bytes(), memory.memory_bytes(), utilisation)
