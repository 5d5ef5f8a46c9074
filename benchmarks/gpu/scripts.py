"""Scripts that measure one thing, each in a process of its own: a GPU's memory and a crash are then theirs alone.

A script is told what to measure as JSON, its first argument, and prints its findings as a line of JSON.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Case, images_of, specification
from benchmarks.processes import ROOT, FailedError

# Rows are written every 100 steps and after an epoch. A real epoch has hundreds of steps, so images are repeated.
_STEPS_PER_EPOCH = 250


@contextlib.contextmanager
def specified(case: Case, device: str, steps_per_epoch: int = _STEPS_PER_EPOCH) -> Iterator[dict[str, Any]]:
    """What a process needs to know of a case, whose images are in a file meanwhile."""
    with tempfile.TemporaryDirectory() as place:
        file, images = Path(place, "images.npy"), images_of(case)
        num_images = max(len(images), steps_per_epoch * case.point.batch_size)
        np.save(file, images[np.arange(num_images) % len(images)])
        yield specification(case, file, device)


def ask(module: str, what: Mapping[str, Any], log: Path, patience_s: float) -> Any:
    """What a script of this package prints; appends its messages to `log`. Raises FailedError if it fails."""
    command = [sys.executable, "-m", f"benchmarks.gpu.{module}", json.dumps(what)]
    with (
        log.open("a") as messages,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=messages, text=True, start_new_session=True
        ) as process,
    ):
        try:
            printed, _ = process.communicate(timeout=max(1.0, patience_s))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with what it has started, such as the tracker's server
            raise FailedError(f"no answer within {patience_s:.0f} s") from None
    if process.returncode:
        lines = log.read_text(errors="replace").splitlines()
        raise FailedError(lines[-1] if lines else f"it ended with code {process.returncode}")
    return json.loads(printed)


def answer(measure: Callable[[dict[str, Any]], Any]) -> None:
    """Print what `measure` finds, and nothing else: libraries print to the standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps(measure(json.loads(sys.argv[1]))), file=answers, flush=True)
