"""What the processes of the benchmark answer on their standard input, one JSON object a line."""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np


class Contestant(Protocol):
    """A program that trains K models of one network on the same images."""

    num_params: int  # of one model

    def learn(self, num_steps: int) -> Sequence[float]:
        """Train that many steps from new weights; returns each step's loss in nats per image, mean over the models."""
        ...

    def turn(self, seconds: float) -> Sequence[float]:
        """Train for about so many seconds; returns the seconds of each step of all K models."""
        ...


class Stepper:
    """A contestant that is one function, `advance`, which trains `chunk` steps and returns their losses.

    `advance` may return before the losses are computed; `losses_of` waits for them.
    """

    def __init__(
        self,
        advance: Callable[[], Any],
        num_params: int,
        *,
        chunk: int = 1,
        losses_of: Callable[[Any], list[float]] = lambda loss: [float(loss)],
    ) -> None:
        self.num_params, self._advance, self._chunk, self._losses_of = num_params, advance, chunk, losses_of

    def learn(self, num_steps: int) -> Sequence[float]:
        made = [self._advance() for _ in range(-(-num_steps // self._chunk))]
        return [loss for each in made for loss in self._losses_of(each)][:num_steps]

    def turn(self, seconds: float) -> Sequence[float]:
        times, end, before = list[float](), time.perf_counter() + seconds, time.perf_counter()
        while before < end:
            self._losses_of(self._advance())
            now = time.perf_counter()
            times += [(now - before) / self._chunk] * self._chunk
            before = now
        return times


def serve(make: Callable[[str, dict[str, Any], np.ndarray, int], Contestant]) -> None:
    """Answer requests until the standard input ends.

    `make(name, case, images, k)` makes a contestant of k models; the case is the first argument of the command, and
    images are uint8 [N,C,H,W]. A request is {"name", "k", "do": "learn" or "turn", ...}.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    case = json.loads(sys.argv[1])
    images = np.load(case["images"])
    made: dict[tuple[str, int], Contestant] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        name, k = asked["name"], asked["k"]
        if (name, k) not in made:
            made[name, k] = make(name, case, images, k)
        contestant = made[name, k]
        if asked["do"] == "learn":
            losses = contestant.learn(asked["steps"])
            last = losses[-asked["last"] :]
            answer = {"elbo": case["constant"] - sum(last) / len(last)}
        else:
            times = sorted(1e3 * step / k for step in contestant.turn(asked["seconds"]))
            # A tenth of the steps are faster than `fast_ms`: what other programs on the machine disturb least.
            answer = {"ms": sum(times) / len(times), "fast_ms": times[len(times) // 10]}
        print(json.dumps(answer | {"num_params": contestant.num_params}), file=answers, flush=True)
