"""A dry run says what a launch would do: it writes nothing, and the launch then does it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import launch_here
from vae_sweeps.runs.finding import all_runs

TINY = ["steps=4", "arch.hidden=[4]", "evaluation=none", "tracker=none"]


def _slow(command: list[str], pack_sizes: list[int], kind: str) -> Any:
    return pytest.param(command, pack_sizes, id=kind, marks=pytest.mark.slow)


SAMPLES = ["hydra.sweeper.num_samples=5", "hydra.sweeper.seed=1"]


@pytest.mark.parametrize(
    ("command", "pack_sizes"),
    [
        pytest.param(["beta=0.5"], [1], id="one point"),
        _slow(["-m", "beta=0,1,1.0", "latent=2,3"], [4], "grid"),
        _slow(["-m", "seed=range(3)", "batch_size=32,64", "max_pack=2"], [1, 1, 2, 2], "small packs"),
        _slow(["-m", "p=zip(beta=[0,1,2],batch_size=[32,32,64])", "seed=0,1"], [2, 4], "zip"),
        _slow(["-m", *TINY, "beta=0,1", "+also", "beta=2", "batch_size=32"], [1, 2], "also"),
        _slow(["-m", "beta=0,1,2", "latent=2,3", "hydra.sweeper.where=beta<latent"], [5], "where"),
        _slow(["-m", "beta=interval(0,1)", "hydra.sweeper.num_points=4"], [4], "interval"),
        _slow(["-m", "beta=interval(0,1)", "latent=2,3", "hydra.sweeper.sampler=random", *SAMPLES], [5], "random"),
        _slow(["-m", "beta=interval(0,1)", "latent=2,3", "hydra.sweeper.sampler=sobol", *SAMPLES], [5], "sobol"),
        _slow(["-m", "points={tmp_path}/points.csv", "seed=0,1"], [2, 4], "points"),
        _slow(["-m", "seed=0,1,2,3", "hydra.launcher.workers=2"], [2, 2], "workers"),
    ],
)
def test_the_packs_that_it_names_are_trained(
    command: list[str], pack_sizes: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output_dir = tmp_path / "out"
    (tmp_path / "points.csv").write_text("beta,batch_size\n0,\n1,64\n2,32\n")
    words = [*(word.format(tmp_path=tmp_path) for word in command), *TINY, f"output_dir={output_dir}"]
    assert launch_here(*words, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert not output_dir.exists()
    assert shown.endswith("dry run: nothing was written\n")
    named = [int(line.split(": ")[1].split()[0]) for line in shown.splitlines() if line.startswith("  pack ")]
    assert sorted(named) == pack_sizes
    assert launch_here(*words) == 0
    trained = Counter(json.loads(run.result.read_text())["pack_size"] for run in all_runs(output_dir))
    assert trained == Counter({size: size * count for size, count in Counter(pack_sizes).items()})
    capsys.readouterr()
    assert launch_here(*words, "dry_run=true") == 0
    again = capsys.readouterr().out
    assert "already done" in again
    assert "nothing to do" in again


@pytest.mark.slow
def test_it_says_how_long_it_will_take_where_the_like_was_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal points cost as much as those before; others are not guessed from them."""
    words = ["-m", *TINY, "seed=0,1", f"output_dir={tmp_path}"]
    assert launch_here(*words) == 0
    for run in all_runs(tmp_path):
        run.write_result({**(run.read_result() or {}), "time_s": 60.0})
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert launch_here(*words, "seed=2,3,4", "dry_run=true") == 0
    assert "about 3.0 min; seed=2,3,4\n" in capsys.readouterr().out
    assert launch_here(*words, "arch.hidden=[5]", "dry_run=true") == 0
    assert "time not known" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
