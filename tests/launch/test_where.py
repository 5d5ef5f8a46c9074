"""`hydra.sweeper.where` keeps the points of a grid for which a condition holds."""

import itertools

import pytest

from tests.conftest import Door
from vae_sweeps.launch.where import KEY, Condition

BETAS, LATENTS = (0, 0.01, 1), (2, 10, 128)
GRID = ["-m", "beta=0,1e-2,1", "latent=2,10,128", "optim.lr=1e-3", "tracker=none", "dry_run=true"]


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("latent>=10 or beta<1", lambda beta, latent: latent >= 10 or beta < 1),
        ("latent in [2, 10] and not beta == 1e-2", lambda beta, latent: latent in (2, 10) and beta != 0.01),
        ("0 < beta <= 1", lambda beta, latent: 0 < beta <= 1),
        ("latent * beta > 1.5", lambda beta, latent: latent * beta > 1.5),
        ("-beta < optim.lr - 1", lambda beta, latent: -beta < 1e-3 - 1),
    ],
)
def test_a_condition_means_what_it_means_in_python(text, truth) -> None:
    condition = Condition(text)
    for beta, latent in itertools.product(BETAS, LATENTS):
        assert condition.holds({"beta": beta, "latent": latent, "optim.lr": 1e-3}) == truth(beta, latent)


def test_a_grid_has_the_points_for_which_it_holds(door: Door, tmp_path) -> None:
    for where, num_points in (("latent>=10 or beta<1", 8), ("optim.lr == 1e-3 and beta == 0.01", 3)):
        ended = door(*GRID, f"{KEY}={where}", f"output_dir={tmp_path / 'out'}")
        assert (ended.code, ended.err) == (0, "")
        assert f"{num_points} points to train" in ended.out
    ended = door(*GRID, f"{KEY}='likelihood==\"gaussian\"'", "likelihood=bernoulli,gaussian", f"output_dir={tmp_path}")
    assert "9 points to train" in ended.out


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("latten>=10", "latten: not a key of this command; did you mean latent?"),
        ("beta=1", "must be a condition such as latent>=10 or beta<1"),
        ("latent>", "must be a condition such as latent>=10 or beta<1"),
        ("latent>1000", "holds for none of the 9 points of the grid"),
        ("latent<'a'", "'<' not supported between instances of 'int' and 'str'"),
        ("1/beta>2", "division by zero"),
        ("__import__('os').remove('x')", "must be a comparison of keys and values"),
        ("[x for x in (1,)]", "must be a comparison of keys and values"),
    ],
)
def test_a_mistake_is_one_line(where: str, line: str, refused) -> None:
    said = refused(*GRID, f"{KEY}={where}")
    assert said.startswith(f"{KEY}={where}: ")
    assert line in said


def test_a_condition_has_one_spelling() -> None:
    """It is a part of the sweep's name."""
    assert str(Condition("latent>=10 or (beta < 1)")) == str(Condition(" latent >= 10 or beta<1"))
    assert str(Condition("latent>=10")) != str(Condition("latent>10"))
