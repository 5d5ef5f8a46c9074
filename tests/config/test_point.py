"""Every choice in conf/ makes a point, and contents that are no point are refused."""

import pytest
import torch

from tests.conftest import ROOT, make_point
from vae_sweeps.config import trust
from vae_sweeps.config.point import from_container, to_container
from vae_sweeps.models.build import build_vae

SHAPE = (1, 28, 28)
GAUSSIAN = "likelihood=gaussian"
CONF = ROOT / "conf"
CHOICES = [path.relative_to(CONF) for path in sorted(CONF.rglob("*.yaml")) if "hydra" not in path.parts]
# Overrides that a choice requires.
NEEDS = {
    "data=custom": ["data._target_=tests.conftest.make_dataset"],
    "objective=mse": [GAUSSIAN],
    "evaluation/features=custom": ["evaluation.features._target_=torch.nn.Flatten"],
    "likelihood=custom": ["likelihood._target_=tests.helpers.own_parts.StudentT"],
    "optim=custom": ["optim.custom._target_=torch.optim.NAdam"],
    "arch=custom": [
        "arch.encoder._target_=torch.nn.Flatten",
        "arch.decoder._target_=torch.nn.Linear",
        "+arch.decoder.in_features=10",
        "+arch.decoder.out_features=784",
    ],
}


@pytest.mark.parametrize("choice", [c for c in CHOICES if str(c.parent) not in (".", "experiment")], ids=str)
def test_every_choice_of_conf_makes_a_vae(choice) -> None:
    override = f"{choice.parent}={choice.stem}"
    point = make_point(override, *NEEDS.get(override, []))
    with trust.allowing(trust.targets_of_points([point])):
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
