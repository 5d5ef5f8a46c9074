"""What the processes of the benchmark answer on their standard input, one JSON object a line."""

import gc
import json
import math
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

    def run(self, num_steps: int) -> float:
        """Train at least so many steps; returns the seconds of one of them, from the time that all of them took.

        The device is waited for only before and after them: on a GPU, steps overlap with the launching of later ones.
        """
        ...


class Memory(Protocol):
    """The memory of a device that a contestant takes."""

    def begin(self) -> None:
        """Give back what earlier contestants have left, and forget their peak."""
        ...

    def peak_bytes(self) -> int | None:
        """The most that was taken since `begin`, in bytes; None where it is not known, as on a CPU."""
        ...


class UnknownMemory:
    """The memory of a CPU, which is not measured."""

    def begin(self) -> None:
        gc.collect()

    def peak_bytes(self) -> None:
        return None


class Stepper:
    """A contestant that is one function, `advance`, which trains `chunk` steps and returns their losses.

    `advance` may return before the losses are computed; `losses_of` waits for them, and `wait` for all that the device
    has to do.
    """

    def __init__(
        self,
        advance: Callable[[], Any],
        num_params: int,
        *,
        chunk: int = 1,
        losses_of: Callable[[Any], list[float]] = lambda loss: [float(loss)],
        wait: Callable[[], Any] = lambda: None,
    ) -> None:
        self.num_params, self._advance, self._chunk, self._losses_of = num_params, advance, chunk, losses_of
        self._wait = wait

    def learn(self, num_steps: int) -> Sequence[float]:
        num_calls = -(-num_steps // self._chunk)
        return [loss for _ in range(num_calls) for loss in self._losses_of(self._advance())][:num_steps]

    def run(self, num_steps: int) -> float:
        num_calls = -(-num_steps // self._chunk)
        return seconds_per_call(self._advance, num_calls, self._wait) / self._chunk

    def turn(self, seconds: float) -> Sequence[float]:
        times, end, before = list[float](), time.perf_counter() + seconds, time.perf_counter()
        while before < end:
            self._losses_of(self._advance())
            now = time.perf_counter()
            times += [(now - before) / self._chunk] * self._chunk
            before = now
        return times


def seconds_per_call(call: Callable[[], Any], num_calls: int, wait: Callable[[], Any]) -> float:
    """The seconds of one of so many calls, from the time that all take; `wait` waits for what the device has to do."""
    wait()
    began = time.perf_counter()
    for _ in range(num_calls):
        call()
    wait()
    return (time.perf_counter() - began) / num_calls


def seconds_per_step(run: Callable[[int], float], seconds: float) -> float:
    """The seconds of a step, in a run of steps that takes about `seconds`: at least half of that, or one step."""
    num_steps = 1
    while True:
        each = run(num_steps)
        if num_steps * each >= seconds / 2:
            return each
        num_steps = math.ceil(min(10 * num_steps, seconds / each))


def is_out_of_memory(error: Exception) -> bool:
    """Whether PyTorch or XLA found too little memory on a GPU or in the machine."""
    text = f"{type(error).__name__} {error}".lower()
    signs = ("outofmemory", "out of memory", "resource_exhausted", "can't allocate memory")
    return isinstance(error, MemoryError) or any(sign in text for sign in signs)


def serve(
    make: Callable[[str, dict[str, Any], np.ndarray, int], Contestant],
    memory_of: Callable[[dict[str, Any]], Memory] = lambda _: UnknownMemory(),
) -> None:
    """Answer requests until the standard input ends.

    `make(name, case, images, k)` makes a contestant of k models; the case is the first argument of the command, and
    images are uint8 [N,C,H,W]. A request is {"name", "k", "do": "learn", "turn", "run", "prepare" or "drop", ...}, with
    "precision" if that is not fp32; "drop" forgets a contestant and its memory. If it fails, the answer has "error", a
    line, and whether it was for lack of memory.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    case = json.loads(sys.argv[1])
    images, memory = np.load(case["images"]), memory_of(case)
    made: dict[tuple[str, int, str], Contestant] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        key = asked["name"], asked["k"], asked.get("precision", case["precision"])
        answer: dict[str, Any] = {}
        try:
            if asked["do"] == "drop":
                made.pop(key, None)
            else:
                if key not in made:
                    memory.begin()
                    made[key] = make(key[0], case | {"precision": key[2]}, images, key[1])
                answer = _answer(made[key], asked, case["constant"]) | {"peak_bytes": memory.peak_bytes()}
        except Exception as error:
            made.pop(key, None)
            first_line = f"{type(error).__name__}: {error}".partition("\n")[0]
            answer = {"error": first_line, "is_out_of_memory": is_out_of_memory(error)}
        if key not in made:
            memory.begin()
        print(json.dumps(answer), file=answers, flush=True)


def _answer(contestant: Contestant, asked: dict[str, Any], constant: float) -> dict[str, Any]:
    """What was asked, and the number of weights; `constant` is the part of the ELBO that losses lack, in nats."""
    k, found = asked["k"], {"num_params": contestant.num_params}
    if asked["do"] == "learn":
        losses = contestant.learn(asked["steps"])
        last = losses[-asked["last"] :]
        return found | {"elbo": constant - sum(last) / len(last)}
    if asked["do"] == "run":
        return found | {"ms": 1e3 * seconds_per_step(contestant.run, asked["seconds"]) / k}
    if asked["do"] == "prepare":
        contestant.run(5)  # compiles; a graph of CUDA is recorded in one of the first three steps
        return found
    times = sorted(1e3 * step / k for step in contestant.turn(asked["seconds"]))
    # A tenth of the steps are faster than `fast_ms`: what other programs on the machine disturb least.
    return found | {"ms": sum(times) / len(times), "fast_ms": times[len(times) // 10]}
