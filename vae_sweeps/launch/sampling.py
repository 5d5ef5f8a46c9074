"""Draw samples of a sweep's space: at random, or evenly spread by Sobol's sequence."""

import itertools
import random
from collections.abc import Iterator, Sequence

from vae_sweeps.launch.space import Dimension


def samples(grid: Sequence[Dimension], sampler: str, seed: int) -> Iterator[list[str]]:
    """Yield samples of the space without end. The first N are the same each time, on every machine.

    A key's samples depend on its name and the seed, not on the other keys (but for their number, with `sobol`). The
    points of Sobol's sequence are shifted by a random vector, modulo 1 (Cranley and Patterson, 1976).
    """
    swept = sorted((dimension for dimension in grid if dimension.is_swept), key=lambda dimension: dimension.keys)
    streams = [random.Random(f"{seed} {','.join(dimension.keys)}") for dimension in swept]
    if sampler == "random":
        rows: Iterator[Sequence[float]] = ([stream.random() for stream in streams] for _ in itertools.count())
    else:
        shifts = [stream.random() for stream in streams]
        rows = ([(x + shift) % 1 for x, shift in zip(row, shifts, strict=True)] for row in _sobol(len(swept)))
    for shares in rows:
        drawn = {id(dimension): dimension.at(share) for dimension, share in zip(swept, shares, strict=True)}
        yield [*itertools.chain(*(drawn.get(id(dimension)) or dimension.fixed() for dimension in grid))]


def _sobol(num_dimensions: int) -> Iterator[Sequence[float]]:
    from scipy.stats import qmc  # takes a second

    sequence = qmc.Sobol(num_dimensions, scramble=False)
    yield from sequence.random(1).tolist()
    for power in itertools.count():  # the sequence is balanced after each power of two
        yield from sequence.random_base2(power).tolist()
