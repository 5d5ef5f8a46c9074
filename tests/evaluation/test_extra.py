"""Metrics of the user's own: columns with a unit and a direction, made again when their source changes."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import vae_sweeps
from tests.conftest import ended_command, launch_here
from vae_sweeps.evaluation import settings
from vae_sweeps.runs import catalogue
from vae_sweeps.runs.finding import all_runs

SOURCE = """
def latents(model, dataset, factor=1):
    return factor * model.latent


def sizes(model, dataset):
    return {"train": dataset.num_images("train"), "pixels": model.images("test")[0].numel()}


def broken(model, dataset):
    raise RuntimeError("it is broken")
"""
FEW = ("evaluation=none", "tracker=none")


def extra(name: str, function: str, **keys: object) -> list[str]:
    keys = {"_target_": f"own_metrics.{function}", **keys}
    return [f"+evaluation.extra.{name}.{key}={value}" for key, value in keys.items()]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "code" / "own_metrics.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    monkeypatch.syspath_prepend(path.parent)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # an edit within a second would not be seen
    return path


def as_in_a_new_process() -> None:
    sys.modules.pop("own_metrics", None)
    settings._digest_of.cache_clear()


@pytest.mark.slow
def test_a_metric_is_a_column_and_is_made_again_when_its_source_changes(module: Path, tmp_path: Path, capsys) -> None:
    as_in_a_new_process()
    out = tmp_path / "out"
    metric = extra("mine", "latents", factor=3, unit="latents", direction="lower")
    assert launch_here("latent=2", "steps=1", f"output_dir={out}", *FEW, *metric, *extra("bad", "broken")) == 0
    (run,) = all_runs(out)
    table = vae_sweeps.results(out)
    assert table["extra/mine"].tolist() == [6]
    assert all(table["test/elbo"] < 0)
    found = catalogue.find("extra/mine")
    assert found is not None
    assert (found.unit, found.better) == ("latents", "lower")
    assert (run.read_result() or {})["missing"]["extra/bad"] == "RuntimeError: it is broken"

    def evaluate(*arguments: str) -> str:
        as_in_a_new_process()
        ended = ended_command(capsys, "evaluate", run.path, *FEW, *arguments, "--output-dir", out)
        assert ended.code == 0, ended.err
        return ended.out + ended.err

    assert "0 of them to evaluate" in evaluate(*metric)
    evaluate(*extra("sizes", "sizes"))
    assert vae_sweeps.results(out)[["extra/sizes/train", "extra/sizes/pixels"]].to_numpy().tolist() == [[3500, 784]]
    module.write_text(SOURCE.replace("factor *", "100 * factor *").replace('"pixels"', '"numbers"'))
    assert "1 of them to evaluate" in evaluate(*metric, *extra("sizes", "sizes"))
    table = vae_sweeps.results(out)
    assert table["extra/mine"].tolist() == [600]
    assert "extra/sizes/pixels" not in table
    assert table["extra/sizes/numbers"].tolist() == [784]


def test_a_mistake_is_one_line_before_anything_is_written(module: Path, refused: Callable[..., str]) -> None:
    as_in_a_new_process()
    assert "_target_=no_such.f: cannot be imported" in refused(*FEW, "+evaluation.extra.a._target_=no_such.f")
    assert "there is no absent in own_metrics" in refused(*FEW, *extra("a", "absent"))
    assert refused(*FEW, "+evaluation.extra.a=1").startswith("evaluation.extra.a=1: must have evaluation.extra.a._targ")
    assert "must be one of lower, higher" in refused(*FEW, *extra("a", "latents", direction="up"))
