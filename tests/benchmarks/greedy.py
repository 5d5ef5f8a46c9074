"""A contestant whose step needs more memory than any machine has, with four models or more."""

import time
from typing import Any

import numpy as np
import torch

from benchmarks.peers.serving import Contestant, Stepper, serve


def make(name: str, case: dict[str, Any], images: np.ndarray, k: int) -> Contestant:
    def advance() -> float:
        time.sleep(0.001)
        torch.empty(1 << 60 if k >= 4 else 1, dtype=torch.uint8)
        return 0.0

    return Stepper(advance, 1)


if __name__ == "__main__":
    serve(make)
