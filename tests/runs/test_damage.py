"""Damage of a run's files is said, and a run that is taken up again ends as if it had not been damaged."""

import json
import logging
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.conftest import make_options, make_point
from tests.helpers.small_jobs import NoPictures, slow
from tests.training.test_resume import assert_same_runs
from vae_sweeps.analysis import table
from vae_sweeps.config.identity import run_id, run_name
from vae_sweeps.config.launch_options import LaunchOptions
from vae_sweeps.data.load import load_dataset
from vae_sweeps.evaluation.model import load
from vae_sweeps.launch.worker import JobContext, References, run_pack
from vae_sweeps.runs import checkpoint, checkup, states
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import files, logs
from vae_sweeps.system.files import DamagedError

CPU = torch.device("cpu")
OPTIONS = make_options("evaluation=none", "tracker=none", "checkpoint_every_s=0")
POINTS = [
    make_point("data=mnist5k", "arch.hidden=[8]", "steps=40", "log_every_steps=5", f"seed={seed}", "batch_size=20")
    for seed in (0, 1, 2)
]


def make_runs(output_dir: Path) -> list[RunFolder]:
    fingerprint = load_dataset(POINTS[0].data).fingerprint
    runs = [RunFolder.under(output_dir, run_name(point, run_id(point, fingerprint))) for point in POINTS]
    for run, point in zip(runs, POINTS, strict=True):
        run.path.mkdir(parents=True)
        run.create(point, OPTIONS, [], data_fingerprint=fingerprint)
    return sorted(runs)


def train(runs: list[RunFolder], num_steps: float = float("inf"), options: LaunchOptions = OPTIONS) -> None:
    """Train the runs in one pack, and stop after so many steps."""
    steps = iter(range(10_000))
    # The loop asks once per step, and the functions around it ask once before it.
    references = References(options, CPU)
    context = JobContext(CPU, options, lambda: next(steps) >= num_steps, references, drawer=NoPictures())
    run_pack(runs, context)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir = tmp_path_factory.mktemp("finished")
    train(make_runs(output_dir))
    return output_dir


@pytest.fixture(scope="module")
def _unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir = tmp_path_factory.mktemp("unfinished")
    train(make_runs(output_dir), 22)
    return output_dir


@pytest.fixture
def unfinished(_unfinished: Path, tmp_path: Path) -> Path:
    """Three runs of a pack that was stopped after about half of their steps."""
    return Path(shutil.copytree(_unfinished, tmp_path / "out"))


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    monkeypatch.setattr(logging.getLogger("vae_sweeps"), "propagate", True)
    caplog.set_level(logging.INFO)
    logs.warn_once.cache_clear()
    return lambda: caplog.text


def flip(path: Path, position: float) -> None:
    """Flip one bit, at a fraction of the file's length."""
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 4
    path.write_bytes(content)


def change_digit(path: Path, number: int = 0) -> None:
    """Change one digit of a text; files of JSON and YAML stay valid."""
    content = bytearray(path.read_bytes())
    places = [i for i, byte in enumerate(content) if byte in b"12345678"]
    content[random.Random(number).choice(places)] += 1
    path.write_bytes(content)


def assert_healed(output_dir: Path, finished: Path) -> None:
    train(all_runs(output_dir))
    assert_same_runs(output_dir, finished)
    steps = [[row["step"] for row in run.read_rows()] for run in all_runs(output_dir)]
    assert steps == [list(range(5, 41, 5))] * 3
    assert not list(output_dir.rglob(".*"))


def test_the_stopped_runs_are_half_way(unfinished: Path, finished: Path) -> None:
    steps = [[c.step for c in checkpoint.available(run)] for run in all_runs(unfinished)]
    assert steps == [steps[0]] * 3
    assert 10 < steps[0][1] < steps[0][0] < 30
    assert_healed(unfinished, finished)


@pytest.mark.parametrize("position", [0.5, *slow(0.05, 0.3, 0.7, 0.9)])
def test_a_flipped_bit_in_a_checkpoint_is_said_or_does_not_matter(position, unfinished, finished, said) -> None:
    run = all_runs(unfinished)[1]
    flip(run.checkpoint, position)
    assert_healed(unfinished, finished)
    assert f"{run.checkpoint}: damaged checkpoint, not used" in said()


def test_most_bits_of_a_checkpoint_are_covered(unfinished) -> None:
    run = all_runs(unfinished)[0]
    whole, num_noticed = run.checkpoint.read_bytes(), 0
    for i in range(40):
        run.checkpoint.write_bytes(whole)
        flip(run.checkpoint, (i + 0.5) / 40)
        try:
            checkpoint.read(run.checkpoint, run.bound_id())
        except DamagedError:
            num_noticed += 1
    assert num_noticed > 30


def test_whatever_is_in_a_checkpoint_it_is_damaged_or_read(unfinished) -> None:
    """Also bytes on which the reader of torch fails with an error of its own, such as an IndexError."""
    run, random_bytes = all_runs(unfinished)[0], random.Random(0)
    for content in [b"", b"\x87.", b"PK\x03\x04", *(random_bytes.randbytes(200) for _ in range(200))]:
        run.checkpoint.write_bytes(content)
        with pytest.raises(DamagedError, match="damaged checkpoint, not used"):
            checkpoint.read(run.checkpoint, run.bound_id())


def test_both_checkpoints_damaged_cost_that_run_alone(unfinished, finished, said) -> None:
    run = all_runs(unfinished)[1]
    for path in (run.checkpoint, run.previous_checkpoint):
        path.write_bytes(path.read_bytes()[:-100])
    assert_healed(unfinished, finished)
    assert f"{run.name}: no checkpoint can be used; it starts again from step 0" in said()
    others = [other for other in all_runs(unfinished) if other != run]
    assert all("resumes after step" in other.log.read_text() for other in others)


def test_the_checkpoint_of_another_run_is_not_used(unfinished, finished, said) -> None:
    first, second, _ = all_runs(unfinished)
    shutil.copy(first.checkpoint, second.checkpoint)
    assert_healed(unfinished, finished)
    assert f"{second.checkpoint}: damaged checkpoint, not used: it belongs to another run" in said()


@pytest.mark.parametrize("damage", ["digit", *slow("cut", "empty", "delete", "repeat")])
def test_damaged_rows_are_said_and_made_again(damage, unfinished, finished, said) -> None:
    rows = all_runs(unfinished)[1].rows
    if damage == "cut":
        rows.write_bytes(rows.read_bytes()[:-60])
    elif damage == "empty":
        rows.write_bytes(b"")
    elif damage == "delete":
        rows.unlink()
    elif damage == "digit":
        change_digit(rows)
    else:
        rows.write_text("".join(line + "\n" for line in rows.read_text().splitlines() for _ in (0, 1)))
    assert_healed(unfinished, finished)
    assert f"{rows}: damaged: not the rows of the checkpoint" in said()


def test_rows_after_the_checkpoint_are_made_again_without_a_word(unfinished, finished, said) -> None:
    rows = all_runs(unfinished)[1].rows
    with rows.open("a") as file:
        file.write('{"step": 35, "train/elbo"')
    assert_healed(unfinished, finished)
    assert "damaged" not in said()


@pytest.mark.parametrize("number", [0, *slow(*range(1, 6))])
def test_a_changed_digit_in_a_config_keeps_its_run_from_training_and_is_said(number, unfinished, said) -> None:
    run = all_runs(unfinished)[1]
    change_digit(run.config, number)
    train(all_runs(unfinished))
    done = [states.status(other, other.read_result()) for other in all_runs(unfinished)]
    if "failed" in done:
        assert done == ["done", "failed", "done"]
        assert str(run.config) in (run.read_failure() or "")
    assert str(run.config) in said()  # or it was a key that does not change the numbers


def test_a_launch_writes_a_damaged_config_again(unfinished, finished, said) -> None:
    run = all_runs(unfinished)[1]
    whole = run.config.read_bytes()
    run.config.write_bytes(b"\xff\xfe nothing")
    point = next(point for point in POINTS if run_id(point, load_dataset(point.data).fingerprint) == run.id)
    run.create(point, OPTIONS, [], data_fingerprint=load_dataset(point.data).fingerprint)
    assert run.config.read_bytes() == whole
    assert f"{run.config}: damaged" in said()
    assert_healed(unfinished, finished)


def test_a_place_of_data_that_was_edited_by_hand_is_accepted_with_a_warning(unfinished, said) -> None:
    run = all_runs(unfinished)[0]
    point = run.read_point()
    run.config.write_text(run.config.read_text().replace("log_every_steps: 5", "log_every_steps: 10"))
    assert run.read_point().log_every_steps == 10
    assert run.read_point().beta == point.beta
    assert f"{run.config}: changed by hand, in keys that do not change the numbers" in said()


@pytest.mark.parametrize("number", [0, *slow(*range(1, 5))])
def test_a_changed_digit_in_a_result_is_said_and_it_is_made_again(number, finished, tmp_path, said) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    run = all_runs(out)[1]
    change_digit(run.result, number)
    assert run.read_result() is None
    assert f"{run.result}: damaged" in said()
    assert sorted(table.results(out)["status"]) == ["done", "done", "interrupted"]
    assert_healed(out, finished)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"3", b"{}", b"\xff\xfe", b'{"status": "done"}', b"null", b"[" * 99_999]
)
def test_a_result_of_any_other_shape_counts_as_none(content, finished, tmp_path, said) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    run = all_runs(out)[1]
    run.result.write_bytes(content)
    assert run.read_result() is None
    assert f"{run.result}: damaged" in said()
    assert len(table.results(out)) == 3


def test_a_finished_run_without_the_weights_of_its_last_step_is_not_loaded(finished, tmp_path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    run = all_runs(out)[0]
    assert load(run.path).sample(1).shape == (1, 1, 28, 28)
    flip(run.checkpoint, 0.5)
    (run.path / "checkpoint.prev.pt").write_bytes(all_runs(finished)[1].checkpoint.read_bytes())  # of another run
    with pytest.raises(ValueError, match="it has no intact checkpoint of its last step, 40; `vae-sweeps doctor`"):
        load(run.path)
    found = [str(finding) for finding in checkup.of_run(run)]
    assert any(line.startswith(f"{run.checkpoint}: damaged checkpoint") for line in found)
    assert any("there is no checkpoint of the last step, 40" in line for line in found)


def test_the_previous_checkpoint_is_kept_until_the_run_is_done_or_always(finished, unfinished, tmp_path) -> None:
    assert not any(run.previous_checkpoint.exists() for run in all_runs(finished))
    assert all(run.previous_checkpoint.exists() for run in all_runs(unfinished))
    runs = make_runs(tmp_path / "always")
    train(runs, options=replace(OPTIONS, keep_previous_checkpoint="always"))
    assert [[c.step for c in checkpoint.available(run)] for run in runs] == [[40, 39]] * 3


def test_a_finished_run_whose_result_and_checkpoint_are_damaged_starts_again(finished, tmp_path, said) -> None:
    """Nothing before its last checkpoint is kept, so it costs the whole training, and the numbers are the same."""
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    for run in all_runs(out):
        assert not run.previous_checkpoint.exists()
        flip(run.result, 0.5)
    run = all_runs(out)[0]
    flip(run.checkpoint, 0.5)
    assert_healed(out, finished)
    assert f"{run.checkpoint}: damaged" in said()


def test_a_run_folder_that_was_renamed_can_be_loaded(finished, tmp_path) -> None:
    run = all_runs(finished)[0]
    copy = RunFolder(Path(shutil.copytree(run.path, tmp_path / "best")))
    assert torch.equal(load(copy.path).sample(2), load(run.path).sample(2))
    assert copy.read_result() == run.read_result()


def test_a_run_whose_folder_bears_another_runs_id_is_refused(finished, tmp_path) -> None:
    first, second, _ = all_runs(finished)
    copy = RunFolder(Path(shutil.copytree(first.path, tmp_path / second.name)))
    with pytest.raises(DamagedError, match=f"it is the config of run {first.id}, but the folder is named {second.id}"):
        copy.read_point()


@pytest.mark.parametrize("content", [b"", b"\xff", b"- 1\n", b"a: [", b"x" * 100])
def test_a_run_with_an_unreadable_config_is_left_out_of_the_table_and_named(content, finished, tmp_path, said) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    run = all_runs(out)[0]
    run.config.write_bytes(content)
    assert len(table.results(out)) == 2
    assert f"{run.config}: damaged" in said()


def test_text_that_is_not_utf_8_is_still_shown(finished, tmp_path) -> None:
    run = RunFolder(Path(shutil.copytree(all_runs(finished)[0].path, tmp_path / "run")))
    run.failure.write_bytes(b"Traceback\nValueError: \xff\n")
    assert (run.read_failure() or "").startswith("Traceback\nValueError: ")
    run.rows.write_bytes(run.rows.read_bytes() + b"\xff\xfe\n[1]\n")
    assert len(run.read_rows()) == 8


def test_a_link_in_a_run_folder_keeps_it_from_training(unfinished, tmp_path, said) -> None:
    run = all_runs(unfinished)[1]
    target = tmp_path / "mine"
    target.write_text("mine")
    run.log.unlink(missing_ok=True)
    run.log.symlink_to(target)
    train(all_runs(unfinished))
    assert f"{run.log}: is a link; remove it" in said()
    assert [other.read_result() is not None for other in all_runs(unfinished)] == [True, False, True]
    assert target.read_text() == "mine"


def test_sealed_json_is_damaged_by_any_change() -> None:
    content = {"a": 1, "b": [1.5, None, "é"], "c": {"d": float("nan")}}
    text = files.seal(content)
    expected = {"a": 1, "b": [1.5, None, "é"], "c": {"d": None}}
    assert files.unseal(text.encode(), Path("x.json"), "then") == expected
    assert json.loads(text).keys() == {*content, "sha256"}
    for i in range(len(text)):
        changed = text[:i] + chr(ord(text[i]) ^ 1) + text[i + 1 :]
        if changed.split() != text.split():
            with pytest.raises(DamagedError, match=r"x\.json: damaged: "):
                files.unseal(changed.encode(), Path("x.json"), "then")
