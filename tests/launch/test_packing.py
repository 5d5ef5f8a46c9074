"""Which points share a pack, and the sizes of packs."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.conftest import make_point
from vae_sweeps.config.schema import Point
from vae_sweeps.launch.packing import Cost, cost, group, pack_key

SHAPE = (1, 28, 28)
GAUSSIAN = "likelihood=gaussian"


@pytest.mark.parametrize(
    ("common", "change"),
    [
        ([], "beta=0.5"),
        ([], "seed=1"),
        ([], "latent=11"),
        ([GAUSSIAN], "likelihood.sigma=1"),
        ([GAUSSIAN], "objective=mse"),
        ([], "objective=pixel_mean"),
        ([], "objective.warmup_epochs=2"),
        ([], "optim.lr=0.01"),
        ([], "optim.clip_norm=1"),
        (["optim=adamw"], "optim.betas=[0.5,0.6]"),
        ([], "arch.init=he"),
    ],
)
def test_points_that_differ_in_these_keys_share_a_pack(common, change) -> None:
    assert make_point(*common, change) != make_point(*common)
    assert pack_key(make_point(*common, change)) == pack_key(make_point(*common))


@pytest.mark.parametrize(
    ("common", "change"),
    [
        ([], "optim=sgd"),
        (["optim=custom", "optim.custom._target_=torch.optim.NAdam"], "+optim.custom.eps=0.1"),
        ([], "arch.hidden=[100]"),
        ([], "arch=conv"),
        ([], "data=mnist"),
        ([], "data.seed=1"),
        ([], "data.root=elsewhere"),  # two folders may hold different images
        ([], "batch_size=65"),
        ([], "epochs=51"),
        ([], "precision=fp64"),
        ([], "posterior=square"),
        ([], "objective.batch=sum"),
        ([], GAUSSIAN),
        ([GAUSSIAN], "likelihood.sigma=learned"),
        ([GAUSSIAN], "likelihood.sigma=optimal"),
        ([], "log_every_steps=1"),
        ([], "log_steps=powers_of_two"),
        ([], "pictures_at_epochs=[1]"),
        ([], "pictures.columns=10"),
    ],
)
def test_points_that_differ_in_these_keys_do_not_share_a_pack(common, change) -> None:
    assert pack_key(make_point(*common, change)) != pack_key(make_point(*common))


def test_learned_and_optimal_sigmas_do_not_share_a_pack() -> None:
    learned, optimal = (make_point(GAUSSIAN, f"likelihood.sigma={kind}") for kind in ("learned", "optimal"))
    assert pack_key(learned) != pack_key(optimal)


def is_affordable(pack: Sequence[int], points: Sequence[Point], costs: Sequence[Cost]) -> bool:
    """K times the highest cost of a point is at most a quarter above the sum of the costs."""
    unpadded = [costs[i](points[i].latent) for i in pack]
    return len(unpadded) * max(unpadded) <= 1.25 * sum(unpadded) * (1 + 1e-12)


def random_sweep(seed: int) -> tuple[list[Point], list[Cost], list[int]]:
    draw = random.Random(seed)
    bases = [make_point("arch.hidden=[10]"), make_point("arch.hidden=[200]"), make_point("arch.hidden=[10]", GAUSSIAN)]
    cost_by_width = {base.arch["hidden"][0]: cost(base, (1, 4, 4)) for base in bases}
    points, costs, limits = [], [], []
    for i in range(draw.randint(1, 40)):
        base = draw.choice(bases)
        points.append(replace(base, latent=round(10 ** draw.uniform(0, 3)), beta=draw.random(), seed=i))
        costs.append(cost_by_width[base.arch["hidden"][0]])
        limits.append({10: 5, 200: 3}[base.arch["hidden"][0]])
    return points, costs, limits


@pytest.mark.parametrize("seed", range(12))
def test_packs_of_a_random_sweep(seed) -> None:
    """Every index occurs once, keys are not mixed, and limits of size and padding are respected."""
    points, costs, limits = random_sweep(seed)
    packs = group(points, costs, limits)
    assert sorted(i for pack in packs for i in pack) == list(range(len(points)))
    for pack in packs:
        assert len({pack_key(points[i]) for i in pack}) == 1
        assert len(pack) <= min(limits[i] for i in pack)
        assert is_affordable(pack, points, costs)


def test_packs_are_as_few_and_as_even_as_the_limit_allows() -> None:
    points = [replace(make_point(), seed=seed) for seed in range(10)]
    for limit, sizes in ((10, [10]), (9, [5, 5]), (4, [3, 3, 4]), (1, [1] * 10)):
        packs = group(points, [cost(point, SHAPE) for point in points], [limit] * 10)
        assert sorted(map(len, packs)) == sizes


def test_only_similar_latent_sizes_share_a_pack() -> None:
    points = [replace(make_point("arch.hidden=[10]"), latent=latent) for latent in (4, 1000, 2, 1001, 3)]
    costs = [cost(point, (1, 4, 4)) for point in points]
    assert group(points, costs, [32] * 5) == [[0, 2, 4], [1, 3]]
    assert not is_affordable([1, 2], points, costs)


def test_cost_counts_the_weights_of_any_latent_size() -> None:
    """Linear in L: for D-h-L-h-D it is D h + h + 2 L (h+1) + L h + h + D h + D."""
    point = make_point("arch.hidden=[50]")
    for latent in (1, 7, 300):
        by_hand = 784 * 50 + 50 + 2 * latent * 51 + latent * 50 + 50 + 50 * 784 + 784
        assert cost(point, SHAPE)(latent) == by_hand
