"""The file of the results, written after each row: an interrupted run keeps what it has measured."""

import contextlib
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.plan import KINDS, Item
from vae_sweeps.system.usage import device_name

FOLDER = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Settings:
    """How it is measured; `seconds` is the length of a turn, and `turns` their number."""

    device: str = "cuda"
    seconds: float = 0.2
    turns: int = 3
    budget_s: float = 480.0
    peers_python: str | None = None


class Budget:
    """The time that a run may take, in seconds from its start."""

    def __init__(self, seconds: float) -> None:
        self._began, self._seconds = time.monotonic(), seconds

    @property
    def used_s(self) -> float:
        return time.monotonic() - self._began

    @property
    def left_s(self) -> float:
        return self._seconds - self.used_s


class Results:
    """Rows by the kind of their items; contestants that ended early; and what was left out, with the reason.

    `content` is what the file has. Items that are not begun are left out because the run ended before them.
    """

    def __init__(self, file: Path, settings: Settings, items: Sequence[Item]) -> None:
        self.file, self.log = file, file.with_suffix(".log")  # the messages of all processes
        self.content: dict[str, Any] = {
            "machine": machine(settings),
            "settings": {"seconds": settings.seconds, "turns": settings.turns, "budget_s": settings.budget_s},
            **{kind: [] for kind in KINDS},
            "ended": [],
            "left_out": [{"what": str(item), "why": "the run ended before it"} for item in items],
        }
        self.write()

    def write(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.content, indent=1) + "\n")

    def begin(self, item: Item) -> None:
        """The item is not left out, or for another reason, which follows."""
        self.content["left_out"] = [entry for entry in self.content["left_out"] if entry["what"] != str(item)]

    def add(self, kind: str, row: dict[str, Any]) -> None:
        self.content[kind].append(row)
        self.write()

    def leave_out(self, what: object, why: str) -> None:
        self.content["left_out"].append({"what": str(what), "why": why})
        self.write()

    def end(self, case: str, name: str, precision: str, k: int, why: str) -> None:
        """A contestant of k models failed: more models are not tried."""
        self.content["ended"].append({"case": case, "name": name, "precision": precision, "k": k, "why": why})
        self.write()

    def has_ended(self, case: str, name: str, precision: str, k: int) -> bool:
        """Whether so many models, or fewer, failed."""
        key = (case, name, precision)
        ends = self.content["ended"]
        return any((end["case"], end["name"], end["precision"]) == key and end["k"] <= k for end in ends)


def slug(name: str) -> str:
    """The name of a card as part of a file's name: `NVIDIA H200` is `nvidia-h200`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def machine(settings: Settings) -> dict[str, Any]:
    """The device and the versions; None for what this machine does not have."""
    device = torch.device(settings.device)
    versions = {"python": platform.python_version(), "vae-sweeps": _version("vae-sweeps"), "torch": torch.__version__}
    return {
        "card": device_name(device),
        "device": settings.device,
        "cpu": device_name(torch.device("cpu")),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": torch.cuda.get_device_properties(0).total_memory if device.type == "cuda" else None,
        "driver": _driver() if device.type == "cuda" else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        **versions,
        "jax": jax_version(settings.peers_python),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _version(name: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):  # from a checkout that is not installed
        return metadata.version(name)
    return None


def _output(*command: str) -> str | None:
    """The first line that a command prints; None if there is no such command, or if it fails."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.partition("\n")[0].strip() or None
    return None


def _driver() -> str | None:
    return _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")


def jax_version(python: str | None) -> str | None:
    """The version of JAX that a Python has; None if it has none."""
    ask = "from importlib import metadata; print(metadata.version('jax'))"
    return None if python is None else _output(python, "-c", ask)
