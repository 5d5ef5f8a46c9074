"""How many examples the fuzz tests draw, and the mutations of files that they share.

The quick suite draws a few, always the same. VAE_SWEEPS_FUZZ=N draws N new ones for each test.
"""

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

_NUM_EXAMPLES = int(os.environ.get("VAE_SWEEPS_FUZZ", "0"))


def examples(num: int) -> Any:
    """A decorator: draw `num` examples, or as many as the environment says."""
    return settings(
        max_examples=_NUM_EXAMPLES or num,
        derandomize=not _NUM_EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if _NUM_EXAMPLES else [])],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """The content after one to three changes: bits, bytes, cuts, repetitions, insertions, or other content."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, max(0, len(data) - 1)))
        end = min(len(data), start + draw(st.integers(0, 64)))
        kind = draw(st.sampled_from(["bit", "bytes", "cut", "delete", "repeat", "insert", "zeros", "replace"]))
        if kind == "bit" and data:
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "bytes":
            data[start:end] = draw(st.binary(min_size=end - start, max_size=end - start))
        elif kind == "cut":
            del data[start:]
        elif kind == "delete":
            del data[start:end]
        elif kind == "repeat":
            data[end:end] = data[start:end] * draw(st.integers(1, 50))
        elif kind == "insert":
            data[start:start] = draw(st.binary(max_size=32))
        elif kind == "zeros":
            data[start:end] = bytes(end - start)
        elif kind == "replace":
            data = bytearray(draw(st.binary(max_size=64)))
    return bytes(data)
