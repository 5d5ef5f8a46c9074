"""`vae-sweeps launch` is `launch.py` from any folder, with parts and configs of the user's own beside it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vae_sweeps.runs.finding import all_runs

PROGRAM = "import sys; from vae_sweeps.cli.app import main; main(sys.argv[1:])"
QUICK = ("latent=2", "steps=2", "evaluation=none", "tracker=none")
EXPERIMENT = """\
# @package _global_
defaults:
  - override /arch: tiny
  - _self_
beta: 0.5
"""
TINY = """\
_target_: vae_sweeps.models.custom
encoder: {_target_: beside_nets.Encoder, width: 2}
decoder: {_target_: beside_nets.Decoder, width: 2}
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", PROGRAM, "launch", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_own_parts_and_configs_beside_the_folder_of_the_launch(tmp_path: Path) -> None:
    (tmp_path / "beside_nets.py").write_text((ROOT / "tests" / "helpers" / "own_parts.py").read_text())
    for name, text in {"arch/tiny.yaml": TINY, "experiment/mine.yaml": EXPERIMENT}.items():
        path = tmp_path / "my_conf" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    # Two processes of its own train the two points, and import the network too.
    two = ("-m", "--config-dir", "my_conf", "experiment=mine", "seed=0,1", "max_pack=1", "hydra.launcher.workers=2")
    ended = run(tmp_path, *two, *QUICK)
    assert ended.returncode == 0, ended.stderr
    searched = run(tmp_path, "hydra.searchpath=[file://my_conf]", "experiment=mine", "seed=1", *QUICK)
    assert searched.returncode == 0, searched.stderr
    assert "1 of 1 point already done" in searched.stdout
    runs = all_runs(tmp_path / "outputs")
    assert [(folder.read_point().beta, folder.read_point().arch["encoder"]["width"]) for folder in runs] == [
        (0.5, 2)
    ] * 2


def test_a_mistake_is_one_line_and_help_is_hydras(tmp_path: Path) -> None:
    ended = run(tmp_path, "beta=-1")
    assert (ended.returncode, ended.stderr) == (2, "error: beta=-1: must be a number >= 0\n")
    shown = run(tmp_path, "--help")
    assert shown.returncode == 0
    assert "== Groups (choose with group=choice) ==" in shown.stdout
    assert list(tmp_path.iterdir()) == []
