"""Grids and the names of sweeps."""

from collections.abc import Callable, Sequence
from functools import cache

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from tests.conftest import ROOT
from vae_sweeps.config import compose
from vae_sweeps.launch import grid, spellings


@pytest.fixture(scope="module")
def config_loader() -> ConfigLoader:
    compose.register_schemas()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return GlobalHydra.instance().config_loader()


@pytest.fixture(scope="module")
def space(config_loader) -> Callable[..., grid.Space]:
    """The space that the arguments of a command describe."""

    @cache
    def composed(settings: tuple[str, ...]) -> DictConfig:
        return config_loader.load_configuration("config", list(settings), run_mode=RunMode.MULTIRUN)

    def read(*arguments: str) -> grid.Space:
        hydra = spellings.for_hydra(arguments)
        settings = tuple(argument for argument in hydra if argument.lstrip("+").startswith("hydra."))
        others = [argument for argument in hydra if argument not in settings]
        return grid.read_space(config_loader, composed(settings), others)

    return read


@pytest.fixture(scope="module")
def points(space) -> Callable[..., list[dict[str, str]]]:
    """The points that a command describes: the value of each key."""
    return lambda *arguments: [dict(override.split("=", 1) for override in job) for job in space(*arguments).jobs()]


def product(betas: Sequence[object], latents: Sequence[object]) -> list[dict[str, str]]:
    return [{"beta": str(beta), "latent": str(latent)} for beta in betas for latent in latents]


def test_grid_changes_its_last_key_fastest(space) -> None:
    expected = [
        [f"beta={beta}", "seed=3", f"latent={latent}", f"epochs={epochs}"]
        for beta in ("0", "0.5")
        for latent in (2, 10)
        for epochs in (1, 2)
    ]
    assert space("beta=0,0.5", "seed=3", "latent=choice(2,10)", "epochs=range(1,3)").jobs() == expected


def test_a_list_may_have_ranges_in_it_and_names_each_value_once(points) -> None:
    betas = ["0.0", "0.25", "0.5", "0.75", "5"]
    assert points("beta=range(0,1,0.25),5,range(0,1,0.5)") == [{"beta": beta} for beta in betas]
    assert points("arch.hidden=[1,2],[3]", "beta=1") == [{"arch.hidden": h, "beta": "1"} for h in ("[1,2]", "[3]")]


def test_a_pattern_matches_the_choices_of_a_group(points) -> None:
    assert points("arch=glob(*)") == [{"arch": arch} for arch in ("conv", "custom", "mlp")]
    assert points("arch=glob(m*),conv") == [{"arch": arch} for arch in ("mlp", "conv")]


def test_zip_pairs_keys_and_is_one_dimension(points) -> None:
    pairs = [{"beta": "0", "latent": "2"}, {"beta": "1", "latent": "10"}]
    expected = [{"seed": seed} | pair for seed in ("0", "1") for pair in pairs]
    for zipped in ("zip(beta=[0,1],latent=[2,10])", "zip(beta=choice(0,1), latent=range(2,11,8))"):
        assert points("seed=0,1", f"pair={zipped}") == expected


def test_zip_takes_lists_groups_and_quotes(points) -> None:
    found = points("p=zip(arch.hidden=choice([7,8],[]),sweep=['a,b',\"c)\"])")
    assert found == [{"arch.hidden": "[7,8]", "sweep": r"a\,b"}, {"arch.hidden": "[]", "sweep": r"c\)"}]
    found = points("p=zip(arch=[mlp,conv],likelihood=[bernoulli,gaussian])", "likelihood.sigma=0.1")
    assert [point["arch"] for point in found] == ["mlp", "conv"]
    assert all(point["likelihood.sigma"] == "0.1" for point in found)


def test_also_adds_grids_which_keep_what_has_one_value(points) -> None:
    found = points("beta=0,1", "latent=2", "epochs=3", "+also", "beta=4", "latent=50,60", "+also", "epochs=5")
    first = [{"beta": beta, "latent": "2", "epochs": "3"} for beta in ("0", "1")]
    second = [{"epochs": "3", "beta": "4", "latent": latent} for latent in ("50", "60")]
    assert found == [*first, *second, {"latent": "2", "epochs": "5"}]


def test_also_drops_the_keys_of_a_group_that_is_chosen_again(points) -> None:
    assert points("arch=conv", "arch.kernel=3", "beta=0,1", "+also", "arch=mlp")[-1] == {"arch": "mlp"}


def test_equal_points_of_several_grids_are_trained_once(points) -> None:
    assert points("beta=0,1", "latent=2", "+also", "beta=1,2", "latent=2") == product([0, 1, 2], [2])


def test_an_interval_of_a_grid_has_both_ends_and_equal_steps(points) -> None:
    number = "hydra.sweeper.num_points=3"
    assert points("beta=interval(0,1)", "latent=interval(2,9)", number) == product([0, 0.5, 1], [2, 6, 9])
    assert points("beta=tag(log,interval(1e-3,10))", "latent=2", number) == product([0.001, 0.1, 10], [2])
    assert points("latent=interval(1.5,4.5)", number) == [{"latent": latent} for latent in ("2", "3", "4")]
    many = points("latent=interval(1,4)", "hydra.sweeper.num_points=30")
    assert many == [{"latent": str(latent)} for latent in range(1, 5)]


def test_points_of_a_file_are_one_dimension(points, tmp_path) -> None:
    path = tmp_path / "points, all.csv"
    path.write_text('beta,latent,arch.hidden\n0,2,\n\n1, 10 ,"[20,30]"\n')
    first, second = {"beta": "0", "latent": "2"}, {"beta": "1", "latent": "10", "arch.hidden": "[20,30]"}
    expected = [{"seed": seed} | point for seed in ("0", "1") for point in (first, second)]
    assert points(f"points={path}", "seed=0,1") == expected


def test_params_of_a_config_are_those_of_a_command(points) -> None:
    params = ["++hydra.sweeper.params.beta='0,1'", "++hydra.sweeper.params.latent='choice(2,10)'"]
    assert points(*params) == product([0, 1], [2, 10])
    assert points(*params, "beta=3") == product([3], [2, 10])


SPACE = ["beta=tag(log,interval(1e-3,10))", "latent=interval(2,9)", "optim.lr=1e-3,1e-4", "seed=7"]


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_samples_lie_in_the_space_and_more_of_them_begin_with_the_same(points, sampler: str) -> None:
    settings = [f"hydra.sweeper.sampler={sampler}", "hydra.sweeper.seed=3"]
    many = points(*SPACE, *settings, "hydra.sweeper.num_samples=64")
    assert points(*SPACE, *settings, "hydra.sweeper.num_samples=20") == many[:20]
    for point in many:
        assert 1e-3 <= float(point["beta"]) <= 10
        assert int(point["latent"]) in range(2, 10)
        assert point["optim.lr"] in ("0.001", "0.0001")
        assert point["seed"] == "7"
    # A logarithmic scale has a quarter of the points in each decade, whole numbers are equally frequent.
    decades = [sum(10**power <= float(point["beta"]) < 10 ** (power + 1) for point in many) for power in range(-3, 1)]
    latents = [sum(point["latent"] == str(latent) for point in many) for latent in range(2, 10)]
    slack = {"random": (10, 8), "sobol": (1, 1)}[sampler]
    assert all(abs(number - 16) <= slack[0] for number in decades)
    assert all(abs(number - 8) <= slack[1] for number in latents)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("random", {"0.0430556": "82", "0.0098451": "39", "0.108517": "39", "0.0455777": "49"}),
        ("sobol", {"0.0430556": "82", "4.30556": "33", "0.00430556": "8", "0.430556": "58"}),
    ],
)
def test_samples_are_the_same_on_every_machine(points, sampler: str, expected: dict[str, str]) -> None:
    """Python's generator and Sobol's sequence are fixed; these values were written down once."""
    settings = [f"hydra.sweeper.sampler={sampler}", "hydra.sweeper.num_samples=4"]
    found = points("beta=tag(log,interval(1e-3,10))", "latent=interval(2,100)", *settings)
    assert [(point["beta"], point["latent"]) for point in found] == list(expected.items())


def test_samples_of_a_key_do_not_depend_on_other_keys(points) -> None:
    settings = ["hydra.sweeper.sampler=random", "hydra.sweeper.num_samples=9"]
    betas = [point["beta"] for point in points("beta=interval(0,1)", *settings)]
    assert [point["beta"] for point in points("optim.lr=interval(0.1,1)", "beta=interval(0,1)", *settings)] == betas


def test_samples_are_different_and_meet_the_condition(points) -> None:
    settings = ["hydra.sweeper.sampler=random", "hydra.sweeper.where=beta<latent"]
    found = points("beta=0,2,3", "latent=1,2,3", *settings, "hydra.sweeper.num_samples=4")
    expected = [point for point in product([0, 2, 3], [1, 2, 3]) if int(point["beta"]) < int(point["latent"])]
    assert sorted(found, key=str) == sorted(expected, key=str)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["beta=interval(0,1)"], "beta: a grid takes hydra.sweeper.num_points=N values from an interval"),
        (["latent=interval(2.2,2.8)", "hydra.sweeper.num_points=3"], "must hold at least two whole numbers"),
        (["beta=interval(1,1)", "hydra.sweeper.num_points=3"], "from a smaller to a larger number"),
        (["beta=tag(log,interval(0,1))", "hydra.sweeper.num_points=3"], "must begin above 0"),
        (["beta=0,1", "hydra.sweeper.num_points=3"], "no key has an interval"),
        (["beta=interval(0,1)", "hydra.sweeper.num_points=1"], "must be a whole number >= 2"),
        (["beta=0,1", "hydra.sweeper.sampler=random"], "together with hydra.sweeper.num_samples=N"),
        (["beta=0,1", "hydra.sweeper.num_samples=9"], "together with hydra.sweeper.sampler"),
        (["beta=0,1", "hydra.sweeper.sampler=tpe", "hydra.sweeper.num_samples=2"], "random, sobol or null"),
        (["beta=0,1", "hydra.sweeper.sampler=random", "hydra.sweeper.num_samples=3"], "the space has only 2 points"),
        (["beta=1", "hydra.sweeper.sampler=random", "hydra.sweeper.num_samples=3"], "no key has several values"),
        (["beta=0,1", "hydra.sweeper.smpler=random"], "did you mean hydra.sweeper.sampler?"),
        (["beta=zip(beta=[0,1],latent=[2,3])"], "beta is a key; zip needs a name of its own"),
        (["pair=zip(beta,latent)"], "beta: must be key=[values]"),
        (["pair=zip(beta=[0,1])"], "must have at least two keys"),
        (["pair=zip()"], "nothing: must be key=[values]"),
        (["pair=zip(beta=[0,1],latent=[2])"], "beta has 2, latent has 1"),
        (["pair=zip(beta=[0,1],beta=[2,3])"], "beta is given twice"),
        (["pair=zip(beta=[0,1],latent=interval(0,1))"], "latent=interval(0,1): must be key=[values]"),
        (["pair=zip(beta=[0,1],latent=[2,3])", "beta=3"], "beta: is given twice"),
        (["pair=zip(beta=[0,-1],latent=[2,3])"], "beta=-1: must be a number >= 0"),
        (["pair=zip(sweep=[a,b],latent=[2,3])"], "sweep: must be one value"),
        (["beta=0,1", "+also"], "+also: must be followed by the keys of another grid"),
        (["beta=0,1", "+also", "beat=3"], "beat=3: no such key; did you mean beta?"),
        (["beta=0,1", "+also", "latent=3", "hydra.sweeper.where=beta<1"], "beta: not a key of this command"),
        (["points=no-such-file.csv"], "points=no-such-file.csv: No such file or directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(refused, arguments: list[str], line: str) -> None:
    assert line in refused("-m", *arguments)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "must have a line of different keys, and a line for each point"),
        ("beta\n", "must have a line of different keys, and a line for each point"),
        ("beta,beta\n1,2\n", "must have a line of different keys, and a line for each point"),
        ("beta,\n1,2\n", "must have a line of different keys, and a line for each point"),
        ("beta,latent\n1\n", "1: must have 2 values, one for each key"),
        ("beta\n0,1\n", "0,1: must have 1 values, one for each key"),
        ('beta\n"0,1"\n', "beta=0,1: must be one value"),
        ("beta\n-1\n", "beta=-1: must be a number >= 0"),
        ("beta\n'\n", "beta=': cannot be parsed"),
        ("bata\n1\n", "bata=1: no such key"),
    ],
)
def test_a_file_that_has_no_points_is_refused(refused, tmp_path, text: str, line: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)
    said = refused("-m", f"points={path}")
    assert said.removeprefix(f"points={path}: ").startswith(line)


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("+also", "+also"),
        ("points=a.csv", "hydra.sweeper.points=a.csv"),
        ("hydra.sweeper.where=beta<1", "hydra.sweeper.where=beta<1"),
        ("p=zip(beta=[0],latent=[2])", "hydra.sweeper.params={p:zip(beta=[0],latent=[2])}"),
        ("hydra.sweeper.halving.min_epochs=5", "hydra.sweeper.halving.min_epochs=5"),
        ("hydra/sweeper=adaptive", "hydra/sweeper=adaptive"),
    ],
)
def test_what_describes_a_sweep_needs_m(refused, argument: str, named: str) -> None:
    said = refused(argument, *(["beta=1"] if argument == "+also" else []))
    assert said == f"{named}: describes a sweep; put -m in front of it, or remove it"


@pytest.fixture(scope="module")
def sweep_name(space) -> Callable[..., str]:
    def name(*arguments: str) -> str:
        found = space(*arguments)
        return grid.default_sweep_name("mnist5k", found.swept, found.content())

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
        ["beta=0,0.01,1", "latent=interval(2,10)", "hydra.sweeper.num_points=2"],
        ["beta=0,0.01,1", "latent=2,10", "evaluation/features=random"],
    ],
)
def test_equal_grids_have_the_same_sweep_name_whatever_their_spelling(sweep_name, other) -> None:
    assert sweep_name(*other) == sweep_name("beta=0,0.01,1", "latent=2,10")


def test_different_grids_have_different_sweep_names(sweep_name) -> None:
    sampled = ["hydra.sweeper.sampler=random", "hydra.sweeper.num_samples=2"]
    commands = [
        ["beta=0,1", "latent=2,10"],
        ["beta=0,1", "latent=2,11"],
        ["beta=0,1,2", "latent=2,10"],
        ["beta=0,1", "latent=2"],
        ["beta=2,10", "latent=0,1"],
        ["beta=0,1", "latent=2,10", "arch=conv"],
        ["beta=0,1", "latent=2,10", "arch.hidden=[50]"],
        ["beta=0,1", "latent=2,10", "likelihood=bernoulli,gaussian"],
        ["beta=0,1", "latent=2,10", "hydra.sweeper.where=beta<1"],
        ["beta=0,1", "latent=2,10", "+also", "beta=2"],
        ["beta=0,1", "latent=2,10", "+also", "beta=3"],
        ["beta=0,1", "latent=2,10", "+also", "beta=3", "+also", "beta=4"],
        ["pair=zip(beta=[0,1],latent=[2,10])"],
        ["pair=zip(beta=[0,1],latent=[10,2])"],
        ["beta=0,1", "latent=2,10", *sampled],
        ["beta=0,1", "latent=2,10", *sampled, "hydra.sweeper.seed=1"],
        ["beta=0,1", "latent=2,10", "hydra.sweeper.sampler=sobol", "hydra.sweeper.num_samples=2"],
        ["beta=interval(0,1)", "latent=2,10", *sampled],
        ["beta=interval(0,2)", "latent=2,10", *sampled],
        ["beta=tag(log,interval(1,2))", "latent=2,10", *sampled],
        ["beta=interval(1,2)", "latent=2,10", *sampled],
    ]
    names = [sweep_name(*command) for command in commands]
    assert len(set(names)) == len(commands)
    assert all(name.startswith("mnist5k-beta") for name in names)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["beta=0,1", "hydra.sweeper.where=beta<1"], ["beta=0,1", "hydra.sweeper.where=beta < 1"]),
        (["p=zip(beta=[0,1],latent=[2,10])"], ["q=zip(latent=[10,2],beta=[1.0,0])"]),
        (["beta=0,1", "+also", "beta=2", "+also", "beta=3"], ["beta=0,1", "+also", "beta=3", "+also", "beta=2"]),
        (
            ["beta=0,1,2", "hydra.sweeper.sampler=random", "hydra.sweeper.num_samples=2"],
            ["beta=0,1,2", "hydra.sweeper.sampler=random", "hydra.sweeper.num_samples=3"],
        ),
    ],
)
def test_sweeps_that_mean_the_same_have_one_name(sweep_name, one, other) -> None:
    """More samples of the same space belong to the same sweep."""
    assert sweep_name(*one) == sweep_name(*other)


def test_the_swept_keys_are_those_in_which_points_differ(space) -> None:
    found = space(
        "beta=0,1", "latent=2", "epochs=3", "p=zip(seed=[0,1],optim.lr=[1,2])", "+also", "latent=2", "epochs=4"
    )
    assert found.swept == ["beta", "seed", "optim.lr", "epochs"]
