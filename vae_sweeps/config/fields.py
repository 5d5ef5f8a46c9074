"""Declare the keys of a schema: what each allows, and whether it can change a point's numbers."""

from dataclasses import field
from typing import Any

from omegaconf import MISSING


def key(allowed: str, check: Any, *, numbers: bool = True, default: Any = MISSING) -> Any:
    """Declare a key. `check(value)` returns whether a value is allowed, and `allowed` describes the same in words.

    A key with `numbers=False` cannot change a point's numbers and is not part of its run id. A key that is added after
    a release needs a `default` that keeps the earlier behaviour; with this value it is not part of the run id.
    """
    return field(default=default, metadata={"allowed": allowed, "check": check, "numbers": numbers})


def one_of(*names: str, **options: Any) -> Any:
    """Declare a key that must be one of `names`."""
    return key("one of " + ", ".join(names), lambda v: v in names, **options)


def at_least(low: float, kind: str = "a number", **options: Any) -> Any:
    """Declare a key that must be finite and at least `low`."""
    return key(f"{kind} >= {low:g}", lambda v: v >= low and v < float("inf"), **options)


def or_null(low: int, kind: str = "a whole number", **options: Any) -> Any:
    """Declare a key that must be null, or at least `low`."""
    return key(f"{kind} >= {low}, or null", lambda v: v is None or v >= low, **options)


def free(allowed: str, *, numbers: bool = True, default: Any = MISSING) -> Any:
    """Declare a key that is checked only by its type, or elsewhere."""
    return key(allowed, lambda v: True, numbers=numbers, default=default)
