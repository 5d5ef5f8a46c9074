"""`vae-sweeps best`, `compare` and `diff`."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev

import pytest

from tests.conftest import Ended, ended_command, make_options, make_point
from tests.helpers.written_sweep import ELBO, done
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder

Command = Callable[..., Ended]
BASE = ("data=mnist5k", "steps=10")


def write(output_dir: Path, name: str, points: Sequence[tuple[tuple[str, ...], float | None]]) -> SweepFolder:
    """A sweep of points with a test ELBO; without one, the point has not been trained."""
    sweep, names = SweepFolder.under(output_dir, name), []
    for k, (overrides, elbo) in enumerate(points):
        run = RunFolder.under(output_dir, f"{name}-{k:012x}")
        run.create(make_point(*BASE, *overrides), make_options(), [*overrides, "sweep=grid", "output_dir=there"])
        if elbo is not None:
            run.write_result(done({**ELBO, "test/elbo": elbo, "val/elbo": elbo + 1, "fid/random/prior": -elbo}))
        names.append(run.name)
    sweep.add(names, ["beta"])
    return sweep


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return lambda *arguments: ended_command(capsys, *arguments, "--output-dir", tmp_path)


POINTS = [(("beta=1",), -90.0), (("beta=2",), -80.0), (("beta=3", "arch.hidden=[7,8]"), -85.0), (("beta=4",), None)]


def test_best_knows_the_direction_and_says_what_trains_the_points_again(command: Command, tmp_path: Path) -> None:
    write(tmp_path, "grid", POINTS)
    ended = command("best", "grid", "--top", "2")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["grid-000000000001", "grid-000000000002"]
    assert "the best of 3 points by val/elbo (higher is better)" in ended.out
    assert [line.strip() for line in lines if "launch.py" in line] == [
        "python launch.py beta=2",
        "python launch.py beta=3 'arch.hidden=[7,8]'",
    ]
    lower = command("best", "grid", "--by", "fid/random/prior").out.splitlines()
    assert lower[1].startswith("grid-000000000001")  # the lowest FID is that of the highest ELBO


def test_a_point_of_the_defaults_is_trained_by_the_bare_command(tmp_path: Path) -> None:
    (run,) = write(tmp_path, "grid", [((), -90.0)]).runs()
    assert run.read_command() == "python launch.py"
    run.launch_options.unlink()
    assert run.read_command() == ""


@pytest.mark.parametrize(
    ("by", "line"),
    [
        ("test/kl", "--by=test/kl: neither direction is better"),
        ("test/elboo", "test/elboo: no such column; did you mean test/elbo"),
        ("test/iwae", "grid: no finished point has a value of test/iwae"),
    ],
)
def test_best_refuses_what_has_no_best(command: Command, tmp_path: Path, by: str, line: str) -> None:
    write(tmp_path, "grid", POINTS)
    ended = command("best", "grid", "--by", by)
    assert ended.code == 2
    assert ended.err.startswith(f"error: {line}")


def test_compare_pairs_seeds_and_gives_the_error_of_the_difference(command: Command, tmp_path: Path) -> None:
    noise = [0.0, 5.0, -4.0]  # of a seed, which both sweeps have in common
    gains = [1.0, 1.5, 2.6]
    for name, hidden, is_better in (("narrow", "[8]", False), ("wide", "[16]", True)):
        points = [
            (
                (f"beta={beta}", f"seed={seed}", f"arch.hidden={hidden}"),
                -90 - beta + noise[seed] + gains[seed] * is_better,
            )
            for beta in (1, 2)
            for seed in range(3)
        ]
        write(tmp_path, name, [*points, (("beta=7", f"arch.hidden={hidden}"), None)])
    ended = command("compare", "narrow", "wide")
    assert (ended.code, ended.err) == (0, "")
    assert "arch.hidden: [8] in narrow, [16] in wide" in ended.out
    rows = [line.split() for line in ended.out.splitlines() if line.strip().startswith(("1.0 ", "2.0 "))]
    error = stdev(gains) / math.sqrt(3)
    for beta, row in zip((1, 2), rows, strict=True):
        assert row == [
            f"{beta}.0",
            f"{-90 - beta + fmean(noise):.2f}",
            f"{-90 - beta + fmean(noise) + fmean(gains):.2f}",
            f"{fmean(gains):+.4g}",
            f"{error:.2g}",
            "3",
        ]
    assert "mean difference of 2 pairs of points: +1.7 ± 0" in ended.out


def test_compare_counts_points_without_a_partner_and_refuses_none(command: Command, tmp_path: Path) -> None:
    write(tmp_path, "one", [(("beta=1",), -90.0), (("beta=2",), -91.0)])
    write(tmp_path, "other", [(("beta=2",), -89.0), (("beta=3",), -88.0), (("beta=4",), -87.0)])
    write(tmp_path, "third", [(("beta=9", "seed=5"), -87.0), (("beta=8", "seed=5"), -87.0)])
    ended = command("compare", "one", "other")
    assert "without a partner: 1 of one, 2 of other" in ended.out
    assert command("compare", "one", "third").code == 2
    assert command("compare", "one", "fourth").err.startswith("error: fourth: no such sweep; sweeps in ")


def test_sweeps_of_different_folders_are_not_confused(command: Command, tmp_path: Path) -> None:
    """Their runs may have equal names."""
    write(tmp_path, "grid", [(("beta=1",), -90.0)])
    other = write(tmp_path / "there", "grid", [(("beta=1",), -80.0)])
    assert "+10 " in command("compare", "grid", other.path).out


def test_diff_shows_config_circumstances_and_numbers(command: Command, tmp_path: Path) -> None:
    write(tmp_path, "grid", POINTS)
    ended = command("diff", "grid-000000000000", "grid-000000000002")
    assert (ended.code, ended.err) == (0, "")
    lines = [line.split() for line in ended.out.splitlines()]
    assert ["beta", "1", "3"] in lines
    assert ["arch.hidden", "[100,100]", "[7,8]"] in lines
    assert ["test/elbo", "-90", "-85"] in lines
    assert not any(line[0] == "latent" for line in lines)
    same = command("diff", "grid-000000000000", "grid-000000000000").out
    assert same.splitlines() == ["config: equal", "circumstances: equal", "numbers: equal"]
    assert command("diff", "grid-000000000000", "nosuch").code == 2
