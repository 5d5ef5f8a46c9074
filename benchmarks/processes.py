"""The processes that train, and what is asked of them."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import environment

ROOT = Path(__file__).parents[1]

# Which module answers for which contestant, and whether it runs in the environment of the other libraries.
MODULES = {
    "pack": ("benchmarks.peers.pack", False),
    "pack-no-graphs": ("benchmarks.peers.pack", False),
    "pack-3-rates": ("benchmarks.peers.pack", False),
    "pack-9-rates": ("benchmarks.peers.pack", False),
    "bare": ("benchmarks.peers.torch_loops", False),
    "tight": ("benchmarks.peers.torch_loops", False),
    "compiled": ("benchmarks.peers.torch_compiled", False),
    "vmap": ("benchmarks.peers.torch_loops", False),
    "jax": ("benchmarks.peers.jax_vmap", True),
    "pythae": ("benchmarks.peers.pythae_trainer", True),
}


class FailedError(Exception):
    """A contestant could not do what was asked; says why in a line."""


class OutOfMemoryError(FailedError):
    """A contestant needed more memory than there is."""


class Processes:
    """One process for each module that is asked, with the same case. Ends them on exit.

    `peers_python` is the Python of the other libraries; None makes an environment for them, see `environment`. What
    the processes say beside their answers is appended to the file `log`, or lost if that is None.
    """

    def __init__(
        self, specification: Mapping[str, Any], peers_python: str | None = None, log: Path | None = None
    ) -> None:
        self._specification, self._device = json.dumps(specification), specification["device"]
        self._peers_python, self._log = peers_python, log
        self._running: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str) -> subprocess.Popen[str]:
        """Start the process of a contestant if it does not run, and do not wait for it."""
        module, is_peer = MODULES[name]
        if module not in self._running:
            python = (self._peers_python or environment.python()) if is_peer else sys.executable
            command = [python, "-m", module, self._specification]
            pipe = subprocess.PIPE
            # Without this, JAX would compute on a CPU if it finds no GPU, and on a GPU when a CPU is measured.
            env = os.environ | {"JAX_PLATFORMS": self._device}
            with open(self._log or os.devnull, "a") as messages:
                self._running[module] = subprocess.Popen(
                    command, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, stderr=messages, text=True
                )
        return self._running[module]

    def ask(self, name: str, k: int, *, patience_s: float | None = None, **what: Any) -> dict[str, Any]:
        """The answer of a contestant of k models; see `benchmarks.peers.serving`.

        Raises OutOfMemoryError or FailedError if it fails, if its process ends, or if there is no answer within
        `patience_s`; the process is then ended. Of lack of memory the process may be asked again.
        """
        process = self.start(name)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({"name": name, "k": k, **what}) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, as its empty answer says
        if patience_s is not None and not select.select([process.stdout], [], [], patience_s)[0]:
            self.end(name)
            raise FailedError(f"no answer within {patience_s:.0f} s")
        line = process.stdout.readline()
        if not line:
            self.end(name)
            command = " ".join(map(str, process.args))  # pyright: ignore[reportArgumentType]
            raise FailedError(f"{name}, {k} models: the process ended; run {command}")
        answer = json.loads(line)
        if "error" not in answer:
            return answer
        if answer["is_out_of_memory"]:
            raise OutOfMemoryError(answer["error"])
        self.end(name)  # after an error of CUDA, a process cannot use its GPU any more
        raise FailedError(f"{name}, {k} models: {answer['error']}")

    def end(self, name: str) -> None:
        """End the process of a contestant, which gives back all of its memory; the next question starts another."""
        process = self._running.pop(MODULES[name][0], None)
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()
