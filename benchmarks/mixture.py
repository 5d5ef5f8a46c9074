"""Time of fitting the mixture of `fid/FEATURES/mixture`: with memory kept or not, on one thread or on all.

    python -m benchmarks.mixture

The four cases are measured in turn, round after round, in one process. Ratios are computed within each round, since the
machine's speed may drift.
"""

import statistics
import time
import warnings
from contextlib import nullcontext

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from vae_sweeps.system import machine

NUM_CODES, LATENT, COMPONENTS, ITERATIONS = 3500, 128, 10, 20
ROUNDS = 3


def seconds(codes: np.ndarray, *, is_kept: bool, num_threads: int) -> float:
    """The time of one fit."""
    kept = machine.memory_kept(torch.device("cpu"), "evaluation") if is_kept else nullcontext()
    began = time.perf_counter()
    with kept, threadpool_limits(num_threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # all cases make the same number of iterations
        GaussianMixture(COMPONENTS, random_state=0, max_iter=ITERATIONS, tol=0).fit(codes)
    return time.perf_counter() - began


def main() -> None:
    machine.prepare()
    codes = np.random.default_rng(0).standard_normal((NUM_CODES, LATENT))
    cases = [(is_kept, threads) for is_kept in (False, True) for threads in (machine.num_threads(), 1)]
    rounds = [[seconds(codes, is_kept=kept, num_threads=n) for kept, n in cases] for _ in range(ROUNDS)]
    print(f"{NUM_CODES} codes of {LATENT} numbers, {COMPONENTS} components, {ITERATIONS} iterations")
    for i, (is_kept, threads) in enumerate(cases):
        ratio = statistics.median(times[i] / times[0] for times in rounds)
        times = ", ".join(f"{times[i]:.1f}" for times in rounds)
        print(f"memory {'kept' if is_kept else 'not kept'}, threads: {threads}: {times} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
