"""All metrics of disentanglement of one model's codes, and why those that are undefined are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from vae_sweeps.evaluation.metrics.factors import information, interventions, predictors
from vae_sweeps.runs import catalogue

GROUP = "factors"
# A latent whose codes differ by less than this, relative to the largest, differs by the rounding of float32 only.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Measured:
    """Columns of the table, or the reasons why they are empty, and how they were made.

    `shares` [L,F] is the mutual information of each latent with each of the factors `names`, divided by the factor's
    entropy; None if there is none. Factors that do not vary are left out of it, and constant latents have none.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    shares: Float[np.ndarray, "L F"] | None = None


def measure(mu: Float[np.ndarray, "N L"], classes: Int[np.ndarray, "N F"], names: Sequence[str], seed: int) -> Measured:
    """The metrics of posterior means `mu` (float64) and the factors' classes (int64).

    Latents that are constant and factors of one value are left out: they have nothing to tell, so no metric depends on
    whether they are there. Codes are standardised, so no metric depends on a latent's scale.
    """
    latents, varies = _varying(mu), (classes != classes[:1]).any(0)
    varying = tuple(name for name, does in zip(names, varies, strict=True) if does)
    details = {
        "names": list(varying),
        "constant_factors": [name for name in names if name not in varying],
        "constant_latents": [j for j in range(mu.shape[1]) if j not in latents],
        "num_images": len(mu),
        "num_bins": information.NUM_BINS,
        "votes": {
            "fit": interventions.NUM_VOTES,
            "test": interventions.NUM_TEST_VOTES,
            "images": interventions.IMAGES_PER_VOTE,
        },
        "regressor": {"gradient boosting": predictors.REGRESSOR},
    }
    reason = _unusable(mu, latents, varying)
    if reason is not None:
        return Measured(missing=dict.fromkeys(catalogue.names(GROUP), reason), details=details)
    codes = (mu[:, latents] - mu[:, latents].mean(0)) / mu[:, latents].std(0)
    factors = classes[:, varies]
    entropy = information.entropies(factors)
    mutual = np.zeros((mu.shape[1], len(varying)))
    mutual[latents] = information.mutual_information(codes, factors)
    details["mutual_information"] = mutual.tolist()
    metrics, missing = _scores(codes, factors, mutual[latents], entropy, seed)
    return Measured(metrics, missing, details, varying, mutual / entropy)


def _scores(
    codes: Float[np.ndarray, "N L"],
    factors: Int[np.ndarray, "N F"],
    mutual: Float[np.ndarray, "L F"],
    entropy: Float[np.ndarray, " F"],
    seed: int,
) -> tuple[dict[str, float], dict[str, str]]:
    prediction = predictors.predict(codes, factors, seed)
    scores: dict[str, Callable[[], float]] = {
        "mig": lambda: information.mig(mutual, entropy),
        "sap": lambda: predictors.sap(codes, factors),
        "dci_disentanglement": lambda: predictors.disentanglement(prediction.importances),
        "dci_completeness": lambda: predictors.completeness(prediction.importances),
        "dci_informativeness": lambda: float(prediction.explained.mean()),
        "factorvae": lambda: interventions.factorvae(codes, factors, seed),
        "betavae": lambda: interventions.betavae(codes, factors, seed),
        "modularity": lambda: information.modularity(mutual),
    }
    metrics, missing = {}, {}
    for name, score in scores.items():
        try:
            metrics[f"{GROUP}/{name}"] = score()
        except ValueError as error:
            missing[f"{GROUP}/{name}"] = str(error)
    return metrics, missing


def _varying(mu: Float[np.ndarray, "N L"]) -> Int[np.ndarray, " M"]:
    """The latents whose codes vary by more than rounding; none if any is not finite."""
    if not len(mu) or not np.isfinite(mu).all():
        return np.arange(0)
    return np.flatnonzero(np.ptp(mu, axis=0) > _ROUNDING * np.abs(mu).max(0))


def _unusable(mu: Float[np.ndarray, "N L"], latents: Int[np.ndarray, " M"], factors: Sequence[str]) -> str | None:
    """Why no metric can be computed, or None."""
    if (num_bad := int((~np.isfinite(mu).all(1)).sum())) > 0:
        return f"{num_bad} of {len(mu)} images have codes that are not finite"
    if len(mu) < information.NUM_BINS:
        return f"needs at least {information.NUM_BINS} images, as many as bins; there are {len(mu)}"
    if not len(latents):
        return "all latents have the same code for every image"
    return None if len(factors) else "all factors have the same value in every image"
