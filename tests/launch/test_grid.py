"""Grids and the names of sweeps."""

from collections.abc import Callable

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.conftest import ROOT
from vae_sweeps.config import errors
from vae_sweeps.launch import grid


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


def test_a_condition_is_a_part_of_a_sweeps_name(config_loader) -> None:
    command = OverridesParser.create(config_loader=config_loader).parse_overrides(["beta=0,1"])
    names = [grid.default_sweep_name("mnist5k", command, ["beta"], where) for where in (None, "beta<1", "beta < 1")]
    assert names[0] != names[1] == names[2]
