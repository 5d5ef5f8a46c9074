"""What points have cost so far, in the time of their devices. Does not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard


@dataclass(frozen=True)
class Cost:
    """GPU seconds and CPU core seconds. Unless `is_whole`, a part of them is not known.

    A point's cost is its share of its pack's: the points of a pack train together, so their costs add up to its cost.
    """

    gpu_s: float = 0.0
    core_s: float = 0.0
    is_whole: bool = True

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.gpu_s + other.gpu_s, self.core_s + other.core_s, self.is_whole and other.is_whole)


def of_row(row: Mapping[str, Any]) -> Cost:
    """The cost of a point that has not ended, up to the row of its metrics.jsonl."""
    return Cost(_number(row, "gpu_s"), _number(row, "core_s"))


def of_result(result: Mapping[str, Any]) -> Cost:
    """The cost of a point's training and evaluation, of which the latter uses one device.

    A result without `gpu_s` and `core_s` is of an earlier release: of training on CPUs it does not say on how many.
    """
    time_s, devices = _number(result, "time_s"), _number(result, "num_devices") or 1.0
    seconds = result.get("evaluation_s")
    evaluation_s = sum(_number(seconds, part) for part in seconds) if isinstance(seconds, Mapping) else 0.0
    if result.get("device", "cpu") != "cpu":
        return Cost(gpu_s=(_number(result, "gpu_s") or time_s * devices) + evaluation_s)
    if (core_s := _number(result, "core_s")) and time_s:
        return Cost(core_s=core_s + evaluation_s * core_s / time_s / devices)
    return Cost(is_whole=time_s == 0)


def _number(content: Mapping[str, Any], name: str) -> float:
    """The amount of this name; 0 if there is none."""
    value = content.get(name)
    return float(value) if is_amount(value) else 0.0


def is_amount(value: Any) -> TypeGuard[float]:
    """Whether this is a number that can be an amount: not negative, and not absurd."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e18
