"""Metrics from predictors of the factors: SAP from one latent at a time, DCI from all of them."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vae_sweeps.system.rng import generator

# 100 trees of depth 2, each fitted to a random half of the images and added with a weight of 0.2.
REGRESSOR = {"n_estimators": 100, "max_depth": 2, "learning_rate": 0.2, "subsample": 0.5}


def sap(codes: Float[np.ndarray, "N L"], factors: Int[np.ndarray, "N F"]) -> float:
    """The separated attribute predictability (Kumar et al. 2018, sec. 3), from 0 to 1, on average over the factors.

    A factor's score for a latent is the balanced accuracy with which thresholds on this latent predict its class, and
    SAP is the difference between its two best latents. As in the paper, the thresholds are fitted to the images that
    they are tested on. We fit one fewer than there are classes, greedily by a decision tree. (Others use a linear SVM,
    which can separate no class between two others.) A single latent's gap is its score, since an inactive latent's is
    0. A latent of noise scores 1 / C with C classes, so the mean over the factors of 1 - 1 / C is the largest SAP of
    several latents.
    """
    from sklearn.tree import DecisionTreeClassifier

    num_latents = codes.shape[1]
    scores = np.zeros((num_latents + 1, factors.shape[1]))  # the last row is an inactive latent's
    for k, classes in enumerate(factors.T):
        _, classes, counts = np.unique(classes, return_inverse=True, return_counts=True)
        for j in range(num_latents):
            latent = codes[:, j : j + 1]
            # With one feature there is nothing to draw, but scikit-learn wants to be told so.
            tree = DecisionTreeClassifier(max_leaf_nodes=len(counts), class_weight="balanced", random_state=0)
            is_right = tree.fit(latent, classes).predict(latent) == classes
            scores[j, k] = (np.bincount(classes, is_right) / counts).mean()
    second, first = np.sort(scores, 0)[-2:]
    return float((first - second).mean())


class Prediction(NamedTuple):
    """How each factor is predicted from all latents: each latent's importance [L,F], and the accuracy [F].

    A factor's importances add up to 1, or are all 0 if nothing was learned. The accuracy is the share of the factor's
    variance that is explained in images that the predictor was not fitted to; it is negative if the mean predicts
    better.
    """

    importances: Float[np.ndarray, "L F"]
    explained: Float[np.ndarray, " F"]


def predict(codes: Float[np.ndarray, "N L"], factors: Int[np.ndarray, "N F"], seed: int) -> Prediction:
    """Fit the regressors of DCI to a random half of the images, and test them on the other half.

    What is predicted is the class number, as by Eastwood & Williams (2018), whose factors are numbers too. Trees can
    tell classes without an order apart, but to confuse two of them costs more the farther apart their numbers are.

    The regressor is scikit-learn's gradient boosting, and an importance is the share of the decrease in squared error
    that is due to splits on the latent. Of the paper's own two, lasso sees only linear relations, and a random forest
    loses more of rotated codes and gives latents of noise more importance. Classifiers are slower, and for them the
    next of 40 positions is as wrong as the farthest. The fit runs on one thread, and depends on nothing but the seed.
    """
    from sklearn.ensemble import GradientBoostingRegressor

    order = np.random.default_rng(generator("dci", seed).initial_seed()).permutation(len(codes))
    fit, test = order[: len(codes) // 2], order[len(codes) // 2 :]
    importances, explained = np.empty((codes.shape[1], factors.shape[1])), np.empty(factors.shape[1])
    for k, classes in enumerate(factors.T):
        options: dict[str, Any] = {**REGRESSOR, "random_state": generator("dci", seed, k).initial_seed() % 2**32}
        regressor = GradientBoostingRegressor(**options).fit(codes[fit], classes[fit])
        importances[:, k] = regressor.feature_importances_
        error = np.square(regressor.predict(codes[test]) - classes[test]).mean()
        explained[k] = 1 - error / classes.var()
    return Prediction(importances, explained)


def disentanglement(importances: Float[np.ndarray, "L F"]) -> float:
    """How far each latent is important for one factor only, from 0 to 1 (Eastwood & Williams 2018, sec. 2).

    D_j = 1 - H_F(P_j), with the latent's shares P_j of its importance and the entropy to the base of the number of
    factors; on average over the latents, weighted by their importance. Raises ValueError if there are less than two
    factors, or no latent is important.
    """
    if importances.shape[1] < 2:
        raise ValueError("needs at least two factors that vary")
    weights = importances.sum(1)
    if not weights.any():
        raise ValueError("no latent helps to predict a factor")
    return float(np.average(_concentration(importances[weights > 0]), weights=weights[weights > 0]))


def completeness(importances: Float[np.ndarray, "L F"]) -> float:
    """How far one latent only is important for each factor, from 0 to 1 (Eastwood & Williams 2018, sec. 2).

    C_k = 1 - H_L(P_k), with the latents' shares P_k of the factor's importance; on average over the factors that any
    latent is important for. Raises ValueError if there are none, or less than two latents.
    """
    if importances.shape[0] < 2:
        raise ValueError("needs at least two latents that vary")
    told = importances.sum(0) > 0
    if not told.any():
        raise ValueError("no latent helps to predict a factor")
    return float(_concentration(importances.T[told]).mean())


def _concentration(weights: Float[np.ndarray, "R n"]) -> Float[np.ndarray, " R"]:
    """1 - H of each row as shares, with the entropy to the base n: 1 if all is in one place, 0 if all are equal."""
    shares = weights / weights.sum(1, keepdims=True)
    logs = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
    return (1 + (shares * logs).sum(1) / np.log(weights.shape[1])).clip(min=0)  # rounding may leave -1e-16
