"""The processes that train, and what is asked of them."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import environment

ROOT = Path(__file__).parents[1]

# Which module answers for which contestant, and whether it runs in the environment of the other libraries.
MODULES = {
    "pack": ("pack", False),
    "pack-3-rates": ("pack", False),
    "pack-9-rates": ("pack", False),
    "bare": ("torch_loops", False),
    "tight": ("torch_loops", False),
    "vmap": ("torch_loops", False),
    "jax": ("jax_vmap", True),
    "pythae": ("pythae_trainer", True),
}


class Processes:
    """One process for each module that is asked, with the same case. Ends them on exit."""

    def __init__(self, specification: Mapping[str, Any]) -> None:
        self._specification = json.dumps(specification)
        self._running: dict[str, subprocess.Popen[str]] = {}

    def ask(self, name: str, k: int, **what: Any) -> dict[str, Any]:
        """The answer of a contestant of k models; see `benchmarks.peers.serving`."""
        module, is_peer = MODULES[name]
        if module not in self._running:
            python = environment.python() if is_peer else sys.executable
            command = [python, "-m", f"benchmarks.peers.{module}", self._specification]
            pipe = subprocess.PIPE
            self._running[module] = subprocess.Popen(
                command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
            )
        process = self._running[module]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"name": name, "k": k, **what}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{name}, {k} models: the process ended; run {' '.join(map(str, process.args))}")  # pyright: ignore[reportArgumentType]
        return json.loads(line)

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()
