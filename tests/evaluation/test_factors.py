"""Metrics of disentanglement on codes whose relation to the factors is known."""

from functools import cache

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score
from threadpoolctl import threadpool_limits

from vae_sweeps.evaluation.metrics.factors import information, interventions, predictors
from vae_sweeps.evaluation.metrics.factors.measure import Measured, measure
from vae_sweeps.runs import catalogue

NAMES = ("shape", "scale", "x", "y")
# Each combination of three classes of four factors, ten times: the factors are independent in these images.
CLASSES = np.stack(np.meshgrid(*[np.arange(3)] * 4, indexing="ij"), -1).reshape(-1, 4).repeat(10, 0)
CODES = CLASSES.astype(float)
NOISE = np.random.default_rng(0).normal(size=CODES.shape)
NOISY = CODES + NOISE
# Each latent has as much of two factors: (v_0 + v_1, v_0 - v_1, v_2 + v_3, v_2 - v_3) / sqrt 2.
ROTATION = np.kron(np.eye(2), [[1, 1], [1, -1]]) / np.sqrt(2)


def measured(codes: np.ndarray, classes: np.ndarray = CLASSES, names: tuple[str, ...] = NAMES) -> Measured:
    return measure(codes, classes, names, seed=0)


@cache
def of_noisy() -> Measured:
    return measured(NOISY)


def scores(codes: np.ndarray, classes: np.ndarray = CLASSES, names: tuple[str, ...] = NAMES) -> dict[str, float]:
    found = measured(codes, classes, names)
    assert found.missing == {}
    return {column.removeprefix("factors/"): value for column, value in found.metrics.items()}


@pytest.mark.parametrize(
    "codes", [CODES, CODES[:, [2, 0, 3, 1]] * [-1e-3, 5, 1, 1e4] + [7, -2, 0, 1e5]], ids=["equal", "permuted, rescaled"]
)
def test_codes_that_are_the_factors_have_the_largest_scores(codes: np.ndarray) -> None:
    found = scores(codes)
    assert found.pop("sap") == pytest.approx(1 - 1 / 3)  # a latent that tells nothing is right in 1 of 3 images
    assert found == pytest.approx(dict.fromkeys(found, 1), abs=1e-3)


def test_no_score_depends_on_the_scale_of_a_latent() -> None:
    rescaled = measured(NOISY * [1e-4, -1, 1e3, 2] + [0, 1, 1e3, -5])
    assert rescaled.metrics == pytest.approx(of_noisy().metrics, abs=0.01)  # trees break ties in the order of the codes


def test_rotated_codes_mix_factors_and_lose_no_information() -> None:
    found = scores(CODES @ ROTATION)
    assert (found["mig"], found["sap"]) == pytest.approx((0, 0), abs=1e-9)
    assert found["dci_informativeness"] == pytest.approx(1, abs=0.03)
    # Two of four factors are in each latent, and two of four latents in each factor: 1 - log_4 2.
    assert found["dci_disentanglement"] == pytest.approx(0.5, abs=0.05)
    assert found["dci_completeness"] == pytest.approx(0.5, abs=0.05)
    assert found["modularity"] == pytest.approx(2 / 3)  # one of the three other factors is told as much of
    # A pair of latents says which pair of factors it is, and no more.
    assert (found["factorvae"], found["betavae"]) == pytest.approx((0.5, 0.5), abs=0.03)


def test_codes_that_are_independent_of_the_factors_score_as_chance_does() -> None:
    found = scores(NOISE)
    assert (found["mig"], found["sap"]) == pytest.approx((0, 0), abs=0.02)
    assert (found["dci_disentanglement"], found["dci_completeness"]) == pytest.approx((0, 0), abs=0.1)
    assert found["dci_informativeness"] == pytest.approx(0, abs=0.4)  # negative: 405 images are overfitted
    assert found["dci_informativeness"] < 0
    assert (found["factorvae"], found["betavae"]) == pytest.approx((1 / 4, 1 / 4), abs=0.04)
    assert found["modularity"] < 0.5


def test_of_duplicated_codes_no_latent_is_ahead() -> None:
    found = scores(np.hstack([CODES, CODES]))
    assert (found["mig"], found["sap"]) == (0, 0)
    # Each latent still tells of one factor only.
    others = [found[name] for name in ("dci_disentanglement", "modularity", "factorvae", "betavae")]
    assert others == pytest.approx([1] * 4, abs=1e-3)
    assert 1 - np.log(2) / np.log(8) - 1e-3 <= found["dci_completeness"] < 1  # one of 8 latents is important, or two


def test_constant_codes_add_nothing() -> None:
    constant = np.full((len(NOISY), 1), 0.1)
    rounded = (constant + 1e-8 * NOISE[:, :1]).astype(np.float32)
    found = measured(np.hstack([constant, NOISY, rounded]))
    assert found.metrics == of_noisy().metrics
    assert found.details["constant_latents"] == [0, 5]
    assert found.shares is not None
    assert found.shares[[0, 5]].tolist() == [[0] * 4] * 2


def test_a_constant_factor_is_left_out_and_named() -> None:
    classes = np.insert(CLASSES, 1, 2, axis=1)
    found = measured(NOISY, classes, ("shape", "colour", *NAMES[1:]))
    assert found.metrics == of_noisy().metrics
    assert (found.names, found.details["constant_factors"]) == (NAMES, ["colour"])


def test_one_factor_has_the_scores_that_need_no_other() -> None:
    found = measured(NOISY, CLASSES[:, :1], NAMES[:1])
    two = ("dci_disentanglement", "factorvae", "betavae", "modularity")
    assert found.missing == {f"factors/{name}": "needs at least two factors that vary" for name in two}
    assert found.metrics.keys() | found.missing.keys() == set(catalogue.names("factors"))


def test_one_latent_has_the_gap_to_a_latent_that_tells_nothing() -> None:
    found = measured(CODES[:, :1])
    assert found.missing == {"factors/dci_completeness": "needs at least two latents that vary"}
    assert found.metrics == measured(np.hstack([CODES[:, :1], np.zeros_like(CODES)])).metrics
    assert found.metrics["factors/mig"] == pytest.approx(1 / 4)  # of one of four factors


@pytest.mark.parametrize(
    ("codes", "classes", "reason"),
    [
        (CODES[:19], CLASSES[:19], "needs at least 20 images, as many as bins; there are 19"),
        (CODES[:0], CLASSES[:0], "needs at least 20 images, as many as bins; there are 0"),
        (np.ones_like(CODES), CLASSES, "all latents have the same code for every image"),
        (CODES, np.ones_like(CLASSES), "all factors have the same value in every image"),
        (np.where(CLASSES == 0, np.inf, CODES)[:, :1], CLASSES, "270 of 810 images have codes that are not finite"),
    ],
)
def test_scores_that_are_undefined_are_empty_with_the_reason(
    codes: np.ndarray, classes: np.ndarray, reason: str
) -> None:
    found = measured(codes, classes)
    assert found.metrics == {}
    assert found.missing == dict.fromkeys(catalogue.names("factors"), reason)
    assert found.shares is None


@pytest.mark.filterwarnings("ignore:The number of unique classes")
def test_a_factor_whose_values_no_images_share_has_no_interventions() -> None:
    classes = np.hstack([CLASSES[:, :3], np.arange(len(CLASSES))[:, None]])
    found = measured(CODES, classes)
    reason = "needs images that share a value, for each factor"
    assert found.missing == {"factors/factorvae": reason, "factors/betavae": reason}


def test_a_seed_decides_the_scores_whatever_the_number_of_threads() -> None:
    first = of_noisy().metrics
    with threadpool_limits(1):
        assert measured(NOISY).metrics == first
    other = measure(NOISY, CLASSES, NAMES, seed=1).metrics
    drawn = {name for name, value in first.items() if other[name] != value}
    assert {name.removeprefix("factors/") for name in drawn} == {
        "dci_disentanglement", "dci_completeness", "dci_informativeness", "factorvae", "betavae",
    }  # fmt: skip


def test_mutual_information_is_that_of_scikit_learn() -> None:
    codes, classes = NOISY, CLASSES.copy()
    classes[classes == 1] = 9  # classes that do not occur count for nothing
    bins = information.binned(codes)
    assert bins.min(0).tolist() == [0] * 4
    assert bins.max(0).tolist() == [information.NUM_BINS - 1] * 4
    expected = [[mutual_info_score(bins[:, j], classes[:, k]) for k in range(4)] for j in range(4)]
    assert information.mutual_information(codes, classes) == pytest.approx(np.array(expected))
    assert information.entropies(classes) == pytest.approx([np.log(3)] * 4)


def test_mig_and_modularity_of_a_small_table() -> None:
    table = np.array([[0.6, 0.1, 0.0], [0.2, 0.4, 0.4], [0.5, 0.0, 0.0]])
    assert information.mig(table, np.array([1.0, 0.5, 2.0])) == pytest.approx((0.1 / 1 + 0.3 / 0.5 + 0.4 / 2) / 3)
    deviations = [0.1**2 / (0.6**2 * 2), (0.2**2 + 0.4**2) / (0.4**2 * 2), 0]
    assert information.modularity(table) == pytest.approx(1 - np.mean(deviations))
    assert information.modularity(np.vstack([table, np.zeros(3)])) == information.modularity(table)


def test_disentanglement_and_completeness_of_a_small_table() -> None:
    table = np.array([[0.5, 0.0], [0.5, 0.5], [0.0, 0.5], [0.0, 0.0]])
    assert predictors.disentanglement(table) == pytest.approx(0.25 * 1 + 0.5 * 0 + 0.25 * 1)
    assert predictors.completeness(table) == pytest.approx(1 - np.log(2) / np.log(4))
    for score in (predictors.disentanglement, predictors.completeness):
        with pytest.raises(ValueError, match="no latent helps to predict a factor"):
            score(np.zeros((3, 2)))


def test_thresholds_separate_classes_between_others() -> None:
    """Rare classes count as much as frequent ones."""
    classes = np.repeat([3, 1, 4, 0], [500, 5, 200, 50])[:, None]
    codes = np.arange(len(classes), dtype=float)[:, None]
    assert predictors.sap(codes, classes) == 1
    codes[:505] = 0  # the rare class is where the first one is
    assert predictors.sap(codes, classes) == pytest.approx(3 / 4)


def test_pairs_are_different_images_of_one_class() -> None:
    classes = np.array([0, 2, 2, 5, 0, 2, 7, 0, 0])  # no other image has 5 or 7
    one, other = interventions._pairs_sharing(classes, (200, 3), np.random.default_rng(0))
    assert (classes[one] == classes[other]).all()
    assert (one != other).all()
    pairs = {(int(a), int(b)) for a, b in zip(one.ravel(), other.ravel(), strict=True)}
    assert len(pairs) == 4 * 3 + 3 * 2  # all that there are
    images = interventions._sharing(classes, (200, 4), np.random.default_rng(0))
    assert {tuple(np.unique(classes[group])) for group in images} == {(0,), (2,)}
