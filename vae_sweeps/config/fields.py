"""How a key of the schema is declared: its type, what it allows, and whether it can change a point's numbers."""

from dataclasses import field
from typing import Any

from omegaconf import MISSING


def key(allowed: str, check: Any, *, numbers: bool = True, default: Any = MISSING) -> Any:
    """A key: `allowed` says in words what `check(value)` accepts.

    A key with `numbers=False` cannot change a point's numbers and is not part of its run id. A key that is added after
    a release has a `default`, which means what was done before there was the key; run ids leave it out at its default.
    """
    return field(default=default, metadata={"allowed": allowed, "check": check, "numbers": numbers})


def one_of(*names: str, **more: Any) -> Any:
    return key("one of " + ", ".join(names), lambda v: v in names, **more)


def at_least(low: float, kind: str = "a number", **more: Any) -> Any:
    return key(f"{kind} >= {low:g}", lambda v: v >= low and v < float("inf"), **more)


def or_null(low: int, kind: str = "a whole number", **more: Any) -> Any:
    return key(f"{kind} >= {low}, or null", lambda v: v is None or v >= low, **more)


def free(allowed: str, *, numbers: bool = True, default: Any = MISSING) -> Any:
    return key(allowed, lambda v: True, numbers=numbers, default=default)
