"""Reading someone else's run never imports or calls what its config names, unless the user says so."""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import vae_sweeps
from tests.conftest import ended_command, make_options, make_point
from tests.test_public_names import PUBLIC, targets_of_conf
from vae_sweeps.config import compose, trust
from vae_sweeps.config.schema import Point
from vae_sweeps.config.targets import instantiate_target
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.training.pack import new_start

SHAPE = (1, 28, 28)
SMALL = make_point("arch.hidden=[3]", "latent=2", "steps=1")
NETWORK = {"_target_": "mischief.network", **{name: v for name, v in SMALL.arch.items() if name != "_target_"}}

MISCHIEF = """
from pathlib import Path
from vae_sweeps.data import mnist5k
from vae_sweeps.models import mlp

Path(__file__).with_name("was-imported").touch()

def network(**settings):
    return mlp(**settings)

def images(**settings):
    return mnist5k(**settings)
"""

# What a caller adds to the config's own keys.
ADDED = {"num_models", "image_shape", "latent", "params_per_pixel", "dataset"}


@pytest.fixture
def mischief(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], bool]]:
    """Put a module where it can be imported; returns a function that says whether it was."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mischief.py").write_text(MISCHIEF)
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield (tmp_path / "code" / "was-imported").exists
    sys.modules.pop("mischief", None)


@pytest.fixture
def strangers_run(tmp_path: Path) -> RunFolder:
    """A finished run, alone in its sweep, whose config names the module of `mischief`."""
    point = replace(SMALL, arch=NETWORK)
    run = RunFolder.under(tmp_path / "out", "mnist5k-network-0123456789ab")
    run.create(point, make_options("tracker=none"), [])
    checkpoint.save(run, new_start(SMALL, SHAPE))
    run.write_result({"status": "done", "step": 0, "metrics": {"val/elbo": -1.0}})
    SweepFolder.under(tmp_path / "out", "grid").add([run.name], ["beta"])
    return run


@pytest.mark.parametrize("address", sorted(trust.OWN))
def test_our_own_names_are_public_and_take_the_keys_of_their_schema(address: str) -> None:
    package, _, name = address.rpartition(".")
    assert name in PUBLIC[package]
    parameters = inspect.signature(getattr(importlib.import_module(package), name)).parameters.values()
    named = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD} - ADDED
    keys = {f.name for f in fields(trust.OWN[address])} - {"_target_", "_partial_"}
    takes_more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    assert named <= keys if takes_more else named == keys


def test_our_own_configs_name_only_our_own_names() -> None:
    assert targets_of_conf() == set(trust.OWN)


def nested(config: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {**config, **keys}


ATTACKS = {
    "another function": {"_target_": "mischief.network"},
    "a private function": {"_target_": "vae_sweeps.system.git._git"},
    "a nested call": nested(SMALL.arch, hidden={"_target_": "mischief.network"}),
    "a nested call in a list": nested(SMALL.arch, hidden=[{"_target_": "mischief.network"}]),
    "our own name, nested": nested(SMALL.arch, hidden={"_target_": "vae_sweeps.models.conv"}),
    "another key": nested(SMALL.arch, width=3),
    "positional arguments": nested(SMALL.arch, _args_=[3]),
    "a missing key": {"_target_": "vae_sweeps.models.mlp"},
    "a partial call": nested(SMALL.arch, _partial_=True),
    "a conversion": nested(SMALL.arch, _convert_="all"),
    "a resolver": nested(SMALL.arch, activation="${oc.env:HOME}"),
    "a value that is not allowed": nested(SMALL.arch, hidden=[0]),
    "a value of another type": nested(SMALL.arch, negative_slope="steep"),
    "no name": {"hidden": [3]},
    "a name that is not a string": {"_target_": ["vae_sweeps.models.mlp"]},
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_not_ours_is_refused_in_one_line_and_not_imported(attack: str, mischief) -> None:
    with pytest.raises(ValueError, match=r"^_target_=") as refused:
        instantiate_target(ATTACKS[attack], num_models=1, image_shape=SHAPE, latent=2)
    assert "\n" not in str(refused.value)
    assert not mischief()


def test_a_name_that_the_user_allowed_is_called_and_no_other_beside_it(mischief) -> None:
    with trust.allowing(["mischief.network"]):
        assert instantiate_target(NETWORK, num_models=1, image_shape=SHAPE, latent=2).encoder
        with pytest.raises(ValueError, match=r"^_target_=mischief.images: is not one of vae-sweeps' own"):
            instantiate_target({"_target_": "mischief.network", "hidden": {"_target_": "mischief.images"}})
        with pytest.raises(ValueError, match="must not contain"):
            instantiate_target({**NETWORK, "init": "${oc.env:HOME}"})
    with pytest.raises(ValueError, match="--trust"):
        instantiate_target(NETWORK, num_models=1, image_shape=SHAPE, latent=2)


def test_load_refuses_a_strangers_run_and_loads_one_that_is_trusted(mischief, strangers_run: RunFolder) -> None:
    with pytest.raises(ValueError, match=r"^_target_=mischief.network: is not one of .* trust=True"):
        vae_sweeps.load(strangers_run.path)
    assert not mischief()
    assert vae_sweeps.load(strangers_run.path, trust=True).sample(1).shape == (1, *SHAPE)
    with pytest.raises(ValueError, match="mischief"):  # each call asks for its own trust
        vae_sweeps.load(strangers_run.path)


def test_a_trusted_model_may_load_its_data_later(tmp_path: Path, mischief) -> None:
    point = replace(SMALL, data={**SMALL.data, "_target_": "mischief.images"})
    run = RunFolder.under(tmp_path / "out", "images-mlp-0123456789ab")
    run.create(point, make_options(), [])
    checkpoint.save(run, new_start(SMALL, SHAPE))
    with pytest.raises(ValueError, match="mischief"):
        vae_sweeps.load(run.path).images("test")
    assert len(vae_sweeps.load(run.path, trust=True).images("test"))


def test_a_name_in_the_users_own_configs_needs_no_trust(
    mischief, strangers_run: RunFolder, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "conf" / "arch").mkdir(parents=True)
    (tmp_path / "conf" / "arch" / "mine.yaml").write_text("_target_: mischief.network\nhidden: [8]\n")
    (tmp_path / "conf" / "broken.yaml").write_text("a: [")
    monkeypatch.chdir(tmp_path)  # a conf/ in the current folder may be the stranger's
    with pytest.raises(ValueError, match="mischief"):
        vae_sweeps.load(strangers_run.path)
    monkeypatch.setattr(compose, "CONF", tmp_path / "conf")
    trust._named_in_conf.cache_clear()
    assert vae_sweeps.load(strangers_run.path).latent == 2
    trust._named_in_conf.cache_clear()


def test_evaluate_refuses_a_strangers_run_before_it_does_anything(mischief, strangers_run: RunFolder, capsys) -> None:
    before = strangers_run.result.read_bytes()
    ended = ended_command(capsys, "evaluate", "grid", "tracker=none", "--output-dir", strangers_run.output_dir)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: _target_=mischief.network: is not one of vae-sweeps' own")
    assert ended.err.count("\n") == 1
    assert (strangers_run.result.read_bytes(), mischief()) == (before, False)


def test_reading_a_strangers_sweep_imports_nothing(mischief, strangers_run: RunFolder, capsys) -> None:
    for command in ("status", "results", "report"):
        assert ended_command(capsys, command, "grid", "--output-dir", strangers_run.output_dir).code == 0
    assert list(vae_sweeps.results(strangers_run.output_dir)["arch"]) == ["network"]
    assert not mischief()


def test_retry_refuses_a_strangers_run(mischief, strangers_run: RunFolder, capsys) -> None:
    strangers_run.clear(keep_training=False)
    strangers_run.write_failure("ValueError: none")
    ended = ended_command(capsys, "retry", "grid", "--output-dir", strangers_run.output_dir)
    assert ended.code == 2
    assert "_target_=mischief.network: is not one of" in ended.err
    assert not mischief()


def test_points_and_options_name_what_a_launch_may_call() -> None:
    point: Point = replace(SMALL, arch={"_target_": "mine.network", "inner": [{"_target_": "mine.part"}]})
    assert trust.targets_of_points([point]) - set(trust.OWN) == {"mine.network", "mine.part"}
    options = make_options("evaluation/features=custom", "evaluation.features._target_=mine.Features")
    assert trust.targets_of_options(options) == {"mine.Features"}
