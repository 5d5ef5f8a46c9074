"""How soon a pack has trained its first step: from the start of its process, and from its creation.

What it is told: the specification of a `case`, the number `k` of points, and `began`, when the process was started
(`time.monotonic`, which all processes of a machine share).
"""

import logging
import time
from typing import Any

from vae_sweeps.system import before_torch

before_torch.prepare()

import numpy as np

from benchmarks.gpu import scripts
from benchmarks.peers import pack
from vae_sweeps.system import machine

_NUM_PACKS = 3


def measure(asked: dict[str, Any]) -> dict[str, Any]:
    """Seconds from the start of the process, and from the creation of each of several packs: the first also loads CUDA.

    The start of the process includes importing, composing the points, and copying the images to the device.
    """
    points = pack.Points(asked["case"], np.load(asked["case"]["images"]), asked["k"])
    from_pack = [points.first_step()]
    from_start = time.monotonic() - asked["began"]
    from_pack += [points.first_step() for _ in range(_NUM_PACKS - 1)]
    return {"from_process_start_s": from_start, "from_pack_s": from_pack}


if __name__ == "__main__":
    logging.disable()
    machine.prepare()
    scripts.answer(measure)
