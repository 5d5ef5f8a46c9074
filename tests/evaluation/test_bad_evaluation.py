"""Errors in evaluation settings are one line, before anything is trained or evaluated."""

import importlib.util
import sys
from pathlib import Path

import pytest

from tests.conftest import ended_command, make_options, make_point
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder

SMALL = ["arch.hidden=[4]", "steps=1"]

UNLABELLED = """
import torch
from dataclasses import replace
from vae_sweeps.data import mnist5k

def images(**keys):
    return replace(mnist5k(**keys), name="unlabelled", labels=None)
"""


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("evaluation=foo", "evaluation=foo: must be one of fast, full, none"),
        (
            "evaluation/features=foo",
            "evaluation/features=foo: must be one of auto, classifier, custom, inception, random",
        ),
        (
            "evaluation.features=random",
            "evaluation.features=random: must be chosen as a group: evaluation/features=random",
        ),
        ("evaluation/features=custom", "evaluation.features._target_: has no value"),
        ("evaluation.iwae_samples=-1", "evaluation.iwae_samples=-1: must be a whole number >= 0"),
        ("evaluation.fid=maybe", "evaluation.fid=maybe: must be true or false"),
        ("evaluation.iwae=5", "evaluation.iwae=5: no such key; did you mean evaluation.iwae_samples? known:"),
        (
            "evaluation.num_images=64",
            "evaluation.num_images=64: must be more than 64, the width of the features classifier",
        ),
        ("evaluation.num_images=2000", "evaluation.num_images=2000: must be at most 1000, all of the test split"),
        ("evaluation.mixture_components=9999", "evaluation.mixture_components=9999: must be at most 3500"),
        ("evaluation.batch_size=0", "evaluation.batch_size=0: must be a whole number >= 1"),
    ],
)
def test_a_bad_evaluation_is_refused_before_training(refused, argument: str, line: str) -> None:
    assert refused(argument, *SMALL).startswith(line)


def test_more_images_than_neighbours_are_needed(refused) -> None:
    few = ["evaluation=none", "evaluation.prdc=true", "evaluation.mixture_components=2"]
    assert refused(*few, "evaluation.num_images=5", *SMALL) == (
        "evaluation.num_images=5: must be more than 5, the number of neighbours of density and coverage; raise it, "
        "or set evaluation.prdc=false"
    )


@pytest.mark.parametrize("key", ["evaluation=none,fast", "evaluation.seed=0,1", "evaluation/features=auto,random"])
def test_an_evaluation_holds_for_the_whole_sweep(refused, key: str) -> None:
    assert refused("-m", key, *SMALL) == f"{key.split('=')[0]}: must be one value; it applies to the whole sweep"


def test_a_classifier_needs_labels(refused, tmp_path, monkeypatch) -> None:
    (tmp_path / "unlabelled.py").write_text(UNLABELLED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # `refused` demands that no file is written
    line = refused("data._target_=unlabelled.images", "evaluation/features=classifier", *SMALL)
    assert line.startswith("evaluation/features=classifier: must not be chosen for images without labels")


@pytest.mark.skipif(importlib.util.find_spec("torch_fidelity") is not None, reason="the extra inception is installed")
def test_inception_without_its_extra_names_the_command_that_installs_it(refused) -> None:
    line = refused("evaluation/features=inception", *SMALL)
    assert line == (
        "evaluation/features=inception: needs the extra `inception`, which is not installed; "
        "`.venv/bin/pip install -e .[inception]` installs it"
    )


@pytest.fixture
def one_sweep(tmp_path: Path) -> Path:
    run = RunFolder.under(tmp_path, "run-0")
    run.create(make_point(), make_options("evaluation=none"), [])
    SweepFolder.under(tmp_path, "grid").add([run.name], [])
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["grid", "beta=1"], "beta=1: must be a key of evaluation or tracker, or device; other keys of a finished"),
        (["grid", "evaluation=foo"], "evaluation=foo: must be one of fast, full, none"),
        (["grid", "evaluation.seed=x"], "evaluation.seed=x: must be a whole number >= 0"),
        (["grid", "device=tpu"], "device=tpu: not on this machine"),
        (["other"], "other: no such sweep or folder; sweeps in"),
        (["grid"], "grid: has no finished runs to evaluate; launch it first"),
    ],
)
def test_evaluate_refuses_what_it_cannot_do(one_sweep, capsys, arguments: list[str], line: str) -> None:
    ended = ended_command(capsys, "evaluate", *arguments, "--output-dir", one_sweep)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"error: {line}")
    assert ended.err.count("\n") == 1


def test_prefetch_fetches_what_an_evaluation_needs(capsys) -> None:
    ended = ended_command(capsys, "prefetch", "evaluation/features=random")
    assert ended.code == 0
    assert "mnist5k: 3500 train, 500 val, 1000 test" in ended.out
    assert "features random: 64 wide, weights " in ended.out
    assert ended_command(capsys, "prefetch", "data=foo").err.startswith("error: data=foo: must be one of")
