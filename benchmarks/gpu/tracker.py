"""How much W&B slows down a step, as `benchmarks.tracking` measures it. What it is told: the `device`."""

import logging
from typing import Any

from benchmarks import rounds, tracking
from benchmarks.gpu import scripts
from vae_sweeps.system import machine

_NUM_POINTS, _NUM_ROUNDS = 16, 2


def measure(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The time of a step with W&B, of one without, in each round."""
    measured = tracking.measure(_NUM_POINTS, _NUM_ROUNDS, asked["device"])
    return [
        {"what": f"a step of {_NUM_POINTS} points with W&B {mode}", "of_none": values}
        for mode in ("offline", "online")
        if (values := rounds.ratios(measured[mode], measured["none"]))
    ]


if __name__ == "__main__":
    logging.disable()
    machine.prepare()
    scripts.answer(measure)
