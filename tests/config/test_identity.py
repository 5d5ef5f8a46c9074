"""Run ids, packs, grids and sweep names, and that every choice in conf/ works."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.conftest import ROOT, make_options, make_point
from vae_sweeps.config import errors, keys
from vae_sweeps.config.fields import at_least
from vae_sweeps.config.identity import run_id, run_name
from vae_sweeps.config.point import from_container, to_container
from vae_sweeps.config.schema import Mlp, Point
from vae_sweeps.launch import grid
from vae_sweeps.launch.packing import Cost, cost, group, pack_key
from vae_sweeps.models.build import build_vae

SHAPE = (1, 28, 28)
GAUSSIAN = "likelihood=gaussian"


def id_of(*overrides: str, data_fingerprint: str = "abc") -> str:
    return run_id(make_point(*overrides), data_fingerprint)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["beta=0.01"], ["beta=1e-2"]),
        (["beta=1"], ["beta=1.0"]),
        (["beta=1"], []),
        ([GAUSSIAN, "likelihood.sigma=1"], [GAUSSIAN, "likelihood.sigma=1.0"]),
        ([GAUSSIAN, "likelihood.sigma=0.01"], [GAUSSIAN, "likelihood.sigma=1e-2"]),
        (["data.pixel_range=[0,1]"], ["data.pixel_range=[0.0,1.0]"]),
        (["beta=2", "latent=3"], ["latent=3", "beta=2"]),
        (["objective=pixel_mean"], ["objective.pixels=mean", "objective.latents=mean"]),
        (["steps=100", "epochs=3"], ["steps=100", "epochs=7"]),
    ],
)
def test_equal_configs_have_the_same_id_whatever_their_spelling(one, other) -> None:
    assert id_of(*one) == id_of(*other)


NUMBERS = [
    ["beta=0.5"],
    ["seed=1"],
    ["latent=11"],
    ["posterior=square"],
    ["epochs=51"],
    ["steps=100"],
    ["steps=101"],
    ["batch_size=65"],
    ["precision=fp64"],
    ["arch.hidden=[100]"],
    ["arch.hidden=[100,101]"],
    ["arch.activation=tanh"],
    ["arch=conv"],
    ["arch=conv", "arch.kernel=5"],
    ["arch=conv", "arch.batch_norm=true"],
    [GAUSSIAN],
    [GAUSSIAN, "likelihood.sigma=0.2"],
    [GAUSSIAN, "likelihood.sigma=1"],
    [GAUSSIAN, "likelihood.sigma=learned"],
    [GAUSSIAN, "likelihood.sigma=optimal"],
    [GAUSSIAN, "objective=mse"],
    ["objective=pixel_mean"],
    ["objective.batch=sum"],
    ["objective.warmup_epochs=2"],
    ["optim.lr=0.01"],
    ["optim.betas=[0.5,0.999]"],
    ["optim.clip_norm=1"],
    ["data.seed=1"],
    ["data.binarize=static"],
    ["data.train_on=all"],
    ["data=mnist"],
    ["arch.init=he"],
    ["arch.negative_slope=0.2"],
    [GAUSSIAN, "arch.output=tanh"],
    ["towers=2"],
]


def test_a_change_of_the_numbers_changes_the_id() -> None:
    """All of these, the default, and the default with other data have different ids."""
    ids = [id_of(*overrides) for overrides in NUMBERS] + [id_of(), id_of(data_fingerprint="abd")]
    assert len(set(ids)) == len(NUMBERS) + 2


@dataclass
class LaterMlp(Mlp):
    """The schema of a later release, with one additional key."""

    depth: int = at_least(1, default=1)


def test_a_key_of_a_later_release_changes_the_id_only_if_it_is_not_at_its_default(monkeypatch) -> None:
    """So runs from before the key was added keep their ids."""
    before = make_point()
    monkeypatch.setitem(keys.GROUP_SCHEMAS, ("arch", "mlp_schema"), LaterMlp)
    ids = [run_id(replace(before, arch={**before.arch, "depth": depth}), "abc") for depth in (1, 2)]
    assert ids[0] == run_id(before, "abc")
    assert ids[1] != ids[0]


def test_all_keys_of_a_user_network_are_part_of_the_id() -> None:
    """Their defaults are unknown, even if a key has the same name as a key of the schema."""
    network = {"_target_": "mine.network", "width": 3}
    variants = (network, {**network, "init": "pytorch"})
    assert len({run_id(replace(make_point(), arch=arch), "abc") for arch in variants}) == 2


@pytest.mark.parametrize(
    "override",
    [
        "device=cpu",
        "output_dir=elsewhere",
        "data.root=elsewhere",
        "evaluation.seed=3",
        "evaluation.batch_size=7",
        "log_every_steps=1",
        "log_steps=powers_of_two",
        "pictures_at_epochs=[1,9]",
        "pictures.num_samples=60",
        "checkpoint_every_s=5",
        "max_pack=2",
        "sweep=mine",
        "overwrite=true",
    ],
)
def test_keys_that_cannot_change_the_numbers_do_not_change_the_id(override) -> None:
    assert (make_point(override), make_options(override)) != (make_point(), make_options())
    assert id_of(override) == id_of()


def test_run_names_are_readable_and_end_with_the_id() -> None:
    point = make_point("beta=0.5", "latent=3", "seed=2")
    name = run_name(point, run_id(point, "abc"))
    assert name == f"mnist5k-mlp-bernoulli-beta0.5-latent3-seed2-{run_id(point, 'abc')}"


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
    ],
)
def test_points_that_differ_in_these_keys_share_a_pack(common, change) -> None:
    assert make_point(*common, change) != make_point(*common)
    assert pack_key(make_point(*common, change)) == pack_key(make_point(*common))


@pytest.mark.parametrize(
    ("common", "change"),
    [
        ([], "optim.lr=0.01"),
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
        ([], "arch.init=he"),
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


@pytest.fixture(scope="module")
def config_loader() -> ConfigLoader:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return GlobalHydra.instance().config_loader()


def test_grid_changes_its_last_key_fastest(config_loader) -> None:
    jobs = grid.expand_grid(config_loader, ["beta=0,0.5", "seed=3", "latent=choice(2,10)", "epochs=range(1,3)"])
    expected = [
        [f"beta={beta}", "seed=3", f"latent={latent}", f"epochs={epochs}"]
        for beta in ("0", "0.5")
        for latent in (2, 10)
        for epochs in (1, 2)
    ]
    assert jobs == expected


def test_grid_refuses_an_interval(config_loader) -> None:
    with pytest.raises(errors.RefusedError, match=r"^beta=interval\(0,1\): [^\n]+$"):
        grid.expand_grid(config_loader, ["beta=interval(0,1)"])


@pytest.fixture(scope="module")
def sweep_name(config_loader) -> Callable[..., str]:
    def name(*arguments: str) -> str:
        command = OverridesParser.create(config_loader=config_loader).parse_overrides(list(arguments))
        swept = [override.key_or_group for override in command if override.is_sweep_override()]
        return grid.default_sweep_name("mnist5k", command, swept)

    return name


@pytest.mark.parametrize(
    "other",
    [
        ["latent=2,10", "beta=0,0.01,1"],
        ["beta=1,0,0.01", "latent=10,2"],
        ["beta=0.0,1e-2,1.0", "latent=2,10"],
        ["beta=choice(0,0.01,1)", "latent=choice(2,10)"],
        ["beta=0,0.01,1", "latent=2,10", "device=cpu", "overwrite=true"],
        ["beta=0,0.01,1", "latent=range(2,11,8)"],
    ],
)
def test_equal_grids_have_the_same_sweep_name_whatever_their_spelling(sweep_name, other) -> None:
    assert sweep_name(*other) == sweep_name("beta=0,0.01,1", "latent=2,10")


def test_different_grids_have_different_sweep_names(sweep_name) -> None:
    commands = [
        ["beta=0,1", "latent=2,10"],
        ["beta=0,1", "latent=2,11"],
        ["beta=0,1,2", "latent=2,10"],
        ["beta=0,1", "latent=2"],
        ["beta=2,10", "latent=0,1"],
        ["beta=0,1", "latent=2,10", "arch=conv"],
        ["beta=0,1", "latent=2,10", "arch.hidden=[50]"],
        ["beta=0,1", "latent=2,10", "likelihood=bernoulli,gaussian"],
    ]
    names = [sweep_name(*command) for command in commands]
    assert len(set(names)) == len(commands)
    assert all(name.startswith("mnist5k-beta") for name in names)


CONF = ROOT / "conf"
CHOICES = [path.relative_to(CONF) for path in sorted(CONF.rglob("*.yaml")) if "hydra" not in path.parts]
# Overrides that a choice requires.
NEEDS = {
    "objective=mse": [GAUSSIAN],
    "evaluation/features=custom": ["evaluation.features._target_=torch.nn.Flatten"],
}


@pytest.mark.parametrize("choice", [c for c in CHOICES if str(c.parent) not in (".", "experiment")], ids=str)
def test_every_choice_of_conf_makes_a_vae(choice) -> None:
    override = f"{choice.parent}={choice.stem}"
    point = make_point(override, *NEEDS.get(override, []))
    vae = build_vae([point], SHAPE)
    log_px = vae.likelihood.log_prob(vae.decode(torch.zeros(1, 2, point.latent)), torch.rand(2, 784))  # type: ignore[operator]
    assert log_px.shape == (1, 2)
    assert log_px.isfinite().all()


def test_conf_has_choices() -> None:
    """CHOICES is not empty, and covers all groups."""
    groups = {str(choice.parent) for choice in CHOICES}
    assert groups >= {"data", "arch", "likelihood", "objective", "optim", "evaluation", "tracker"}


@pytest.mark.parametrize("content", [None, [], {}, {"beta": 1.0}])
def test_invalid_configs_are_refused(content) -> None:
    with pytest.raises(ValueError, match=r"^not a point of this version: missing or unknown keys .*latent"):
        from_container(content)


def test_a_config_with_a_key_of_a_later_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^not a point of this version: missing or unknown keys from_the_future$"):
        from_container(to_container(make_point()) | {"from_the_future": 1})


@pytest.mark.parametrize(
    "overrides", [[], [GAUSSIAN, "likelihood.sigma=learned"], [GAUSSIAN, "likelihood.sigma=optimal"]]
)
def test_squared_error_without_a_fixed_sigma_is_refused(overrides) -> None:
    with pytest.raises(ValueError, match=r"^objective\.error=squared: [^\n]*likelihood=gaussian[^\n]+$"):
        make_point("objective=mse", *overrides)
