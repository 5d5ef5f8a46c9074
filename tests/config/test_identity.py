"""Run ids and the names of run folders."""

from dataclasses import dataclass, replace

import pytest

from tests.conftest import make_options, make_point
from vae_sweeps.config import keys
from vae_sweeps.config.fields import at_least
from vae_sweeps.config.identity import run_id, run_name
from vae_sweeps.config.schema import Mlp

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
    ["arch=conv", "arch.decoder_channels=[8,4]"],
    ["arch=conv", "arch.last_kernel=3"],
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
