"""A metric of the user's own: a column, made again when its source changes, whose errors cost nothing else."""

import sys
from pathlib import Path

import pytest

import vae_sweeps
from tests.conftest import launch_here
from vae_sweeps.runs.run_folder import all_runs

POINT = ("steps=1", "latent=2", "arch.hidden=[3]", "evaluation=none", "tracker=none")
CODE = """
def number(model, dataset, factor=1):
    return factor * dataset.num_images("test")

def several(model, dataset):
    mu, sigma = model.encode(model.images("test")[:5])
    return {"mu": mu.mean(), "sigma": sigma.mean()}

def broken(model, dataset):
    raise RuntimeError("no luck")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "code" / "extra_metrics.py"
    path.parent.mkdir()
    path.write_text(CODE)
    monkeypatch.syspath_prepend(path.parent)
    monkeypatch.chdir(tmp_path)
    return path


def launched(*metrics: str) -> int:
    """What a new process would do: import the module anew."""
    sys.modules.pop("extra_metrics", None)
    return launch_here(*POINT, *(f"+evaluation.extra.{metric}" for metric in metrics))


def test_columns_come_and_change_with_their_source_and_an_error_is_a_reason(module: Path, capsys) -> None:
    number, several, broken = (f"{name}._target_=extra_metrics.{name}" for name in ("number", "several", "broken"))
    assert launched(number, "number.factor=2", broken) == 0
    assert launched(several) == 0
    (row,) = vae_sweeps.results("outputs").to_dict("records")
    assert row["extra/number"] == 2000
    assert row["extra/several/sigma"] > 0
    (run,) = all_runs("outputs")
    result = run.read_result()
    assert result is not None
    assert result["missing"]["extra/broken"] == "RuntimeError: no luck"

    capsys.readouterr()
    assert launched(number, "number.factor=2") == 0
    assert "to evaluate" not in capsys.readouterr().out
    module.write_text(CODE.replace("return factor", "return 1 + factor"))
    assert launched(number, "number.factor=2") == 0
    assert vae_sweeps.results("outputs")["extra/number"].tolist() == [2001]
    assert launched("nothing._target_=extra_metrics.nothing") == 2
    assert "error: _target_=extra_metrics.nothing: cannot be imported" in capsys.readouterr().err
