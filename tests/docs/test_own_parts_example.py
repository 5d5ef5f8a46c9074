"""examples/own_parts runs as its README says, and its parts pass the checks."""

import shutil
import sys
from pathlib import Path

import pytest

import vae_sweeps
from tests.conftest import ROOT, launch_here
from vae_sweeps.testing import check_architecture, check_likelihood


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(ROOT / "examples" / "own_parts", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.syspath_prepend(tmp_path / "project")
    yield tmp_path / "project"
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


@pytest.mark.slow
def test_the_experiment_trains_in_packs_with_all_its_parts(project: Path, capsys) -> None:
    quick = ("steps=3", "data.dataset.num=100", "evaluation=none", "tracker=none")
    code = launch_here("-m", "--config-dir", "conf", "experiment=own_parts", "beta=0.1,1", "seed=0,1", *quick)
    assert code == 0
    out = capsys.readouterr().out
    assert "data Shapes: 80 train, 10 val, 10 test images of 1x16x16, 2 classes" in out
    assert "4 points to train in 1 pack" in out
    table = vae_sweeps.results("outputs")
    assert table["status"].tolist() == ["done"] * 4
    assert all(table["extra/scale/sigma"] > 0)


def test_the_parts_keep_their_contracts(project: Path) -> None:
    from my_likelihoods import StudentT  # type: ignore[import-not-found]
    from my_nets import Decoder, Encoder  # type: ignore[import-not-found]

    shape = (1, 16, 16)
    check_likelihood(StudentT(df=9.0))
    check_architecture(lambda: Encoder(shape, width=4, dropout=0.2), lambda: Decoder(shape, 2, width=4), shape, 2)
