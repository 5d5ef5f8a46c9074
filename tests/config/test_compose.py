"""Composing a sweep gives the same configs as Hydra's own, slower, composition of each point."""

from collections.abc import Iterator

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from tests.conftest import ROOT
from vae_sweeps.config.compose import compose_points, compose_sweep, register_schemas
from vae_sweeps.config.errors import UserErrors, one_line
from vae_sweeps.config.point import to_command
from vae_sweeps.launch.grid import read_space


@pytest.fixture
def loader() -> Iterator[ConfigLoader]:
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def fully_composed(loader: ConfigLoader, config: DictConfig, overrides: list[str]) -> DictConfig:
    """Compose the config as Hydra's own launchers do, which takes 100 ms per point."""
    cfg = loader.load_sweep_config(config, overrides)
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    return cfg


GRIDS = {
    "values": ["beta=0,1e-2", "latent=2,10", "optim.lr=0.001,1e-4", "data.pixel_range=[0,1]"],
    "groups": ["arch=mlp,conv", "likelihood=bernoulli,gaussian", "data=fashion_mnist", "seed=1"],
    "groups and their values": [
        "likelihood=gaussian",
        "likelihood.sigma=0.1,learned",
        "objective=elbo,mse",
        "beta=2",
    ],
    "values before groups": ["likelihood.sigma=0.1,1", "likelihood=gaussian", "arch.hidden=[50],[]", "arch=mlp"],
    "groups in groups": ["evaluation/features=random,inception", "evaluation=none,full", "evaluation.seed=1"],
    "interpolations": ["beta=0.5,2", "latent=2", "+twice=${beta}", "sweep=beta-${beta}-of-${latent}", "seed=${latent}"],
    "added and forced": ["+own.key=1,2", "++own.other=3", "++beta=0.1,0.2", "+more={a:1,b:[2,3]}"],
    "deleted": ["~tracker", "~device", "~overwrite=false", "beta=1,2"],
    "dicts where a group is": ["arch={hidden:[7]},{hidden:[8]}", "optim={lr:0.1}"],
    "quoted and odd": ["sweep='a b','c,d'", "output_dir=/tmp/${seed}/x", "seed=1", "data.root=null,'~'"],
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_composed_configs_are_equal_to_those_of_hydra(loader, grid: list[str]) -> None:
    config = loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
    jobs = read_space(loader, config, grid).jobs()
    assert len(jobs) > 1
    composed = list(compose_sweep(loader, config, jobs))
    for cfg, job in zip(composed, jobs, strict=True):
        expected = fully_composed(loader, config, job)
        assert OmegaConf.to_container(cfg) == OmegaConf.to_container(expected)
        assert OmegaConf.to_container(cfg, resolve=True) == OmegaConf.to_container(expected, resolve=True)
        # The schemas are preserved too.
        assert OmegaConf.get_type(cfg) is OmegaConf.get_type(expected)
        assert OmegaConf.get_type(cfg.arch) is OmegaConf.get_type(expected.arch)


def test_composed_configs_share_no_mutable_state(loader) -> None:
    config = loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
    first, second = compose_sweep(loader, config, [["beta=1"], ["beta=2"]])
    first.arch.hidden.append(5)
    first.optim.lr = 7.0
    assert second.arch.hidden == [100, 100]
    assert second.optim.lr == 0.001
    assert (first.beta, second.beta) == (1, 2)


@pytest.mark.parametrize("bad", ["beta=x", "bata=1", "arch=foo", "+beta=1", "~nothing", "arch.hidden=[x]"])
def test_invalid_overrides_raise_the_same_errors_as_in_hydra(loader, bad: str) -> None:
    config = loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
    with pytest.raises(Exception) as expected:  # noqa: PT011
        fully_composed(loader, config, ["latent=2", bad])
    with pytest.raises(type(expected.value)) as actual:
        list(compose_sweep(loader, config, [["latent=2", "beta=1"], ["latent=2", bad]]))
    assert str(actual.value) == str(expected.value)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_the_points_of_a_sweep_are_those_of_their_configs(loader, grid: list[str]) -> None:
    """Also to the type of each number, and with the same error for the first point that has a mistake."""
    config = loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
    jobs = read_space(loader, config, grid).jobs()

    def until_error(commands: Iterator[object]) -> list[str]:
        found = []
        try:
            found += map(repr, commands)
        except ValueError as error:
            found.append(str(error))
        return found

    one_by_one = (to_command(cfg) for cfg in compose_sweep(loader, config, jobs))
    assert until_error(compose_points(loader, config, jobs)) == until_error(one_by_one)


@pytest.mark.parametrize(
    "bad", ["beta=-1", "beta=x", "bata=1", "latent=0", "data.pixel_range=[-1,1]", "arch.hidden=[x]"]
)
def test_a_mistake_in_a_later_point_is_named_as_in_a_single_one(loader, bad: str) -> None:
    config = loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
    key = bad.partition("=")[0]
    good = {"data.pixel_range": "[0,1]", "arch.hidden": "[5]"}.get(key, "1")
    jobs = [["seed=1", f"{key}={good}"]] if key != "bata" else [["seed=1"]]
    with pytest.raises(UserErrors) as expected:
        list(compose_points(loader, config, [["seed=1", bad]]))
    with pytest.raises(UserErrors) as actual:
        list(compose_points(loader, config, [*jobs, ["seed=1", bad]]))
    assert one_line(actual.value) == one_line(expected.value)
