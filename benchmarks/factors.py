"""Time of the metrics of disentanglement of 10,000 codes, and of each part of them.

    python -m benchmarks.factors [--latents 10]

The codes are those of a model that separates five factors with some noise; further latents are noise. Times are of one
thread's processor, and by the clock.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from vae_sweeps.evaluation.metrics.factors import information, interventions, predictors
from vae_sweeps.evaluation.metrics.factors.measure import measure
from vae_sweeps.system import machine

NUM_CODES, SIZES = 10_000, (3, 8, 17, 16, 16)
NAMES = ("shape", "scale", "orientation", "x", "y")


def timed(name: str, function: Callable[[], object]) -> None:
    began, used = time.perf_counter(), time.process_time()
    function()
    print(f"{name}: {time.process_time() - used:.2f} s, by the clock {time.perf_counter() - began:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latents", type=int, default=10)
    num_latents = max(parser.parse_args().latents, len(SIZES))
    machine.prepare()
    draw = np.random.default_rng(0)
    classes = np.stack([draw.integers(0, size, NUM_CODES) for size in SIZES], 1)
    noise = draw.normal(size=(NUM_CODES, num_latents))
    codes = 0.3 * noise + np.pad(classes / classes.std(0), ((0, 0), (0, num_latents - len(SIZES))))
    measure(codes[:100], classes[:100], NAMES, seed=0)  # imports scikit-learn
    print(f"{NUM_CODES} codes of {num_latents} latents, factors of {SIZES} values")
    timed("all", lambda: measure(codes, classes, NAMES, seed=0))
    timed("mutual information", lambda: information.mutual_information(codes, classes))
    timed("SAP", lambda: predictors.sap(codes, classes))
    timed("DCI", lambda: predictors.predict(codes, classes, seed=0))
    timed("FactorVAE score", lambda: interventions.factorvae(codes, classes, seed=0))
    timed("beta-VAE score", lambda: interventions.betavae(codes, classes, seed=0))


if __name__ == "__main__":
    main()
