"""`vae-sweeps doctor` finds what is wrong, says what to do, and mends what is safe to mend."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ended_command
from tests.helpers import report_runs
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files, lease


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    """A sweep of two points that have not ended."""
    runs = [report_runs.make_run(tmp_path / "out", 1, 2, seed) for seed in (0, 1)]
    return report_runs.sweep_of(tmp_path / "out", "grid", runs, ["seed"])


@pytest.fixture
def doctor(sweep: SweepFolder, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str) -> tuple[int, str]:
        ended = ended_command(capsys, "doctor", *arguments, "--output-dir", sweep.output_dir)
        return ended.code, ended.out

    return run


def test_nothing_is_wrong_with_a_sweep_that_was_left_alone(doctor) -> None:
    assert doctor() == (0, "2 runs and 1 sweep: nothing is wrong\n")
    assert doctor("grid") == (0, "2 runs and 1 sweep: nothing is wrong\n")


def config_changed(sweep: SweepFolder) -> Path:
    path = sweep.runs()[0].config
    path.write_text(path.read_text().replace("epochs: ", "epochs: 1"))
    return path


def result_changed(sweep: SweepFolder) -> Path:
    run = sweep.runs()[0]
    run.write_result(report_runs.result(1, 2, 0))
    run.result.write_text(run.result.read_text().replace('"step": 1', '"step": 2'))
    return run.result


def checkpoint_cut(sweep: SweepFolder) -> Path:
    path = sweep.runs()[0].checkpoint
    path.write_bytes(b"PK\x03\x04")
    return path


def no_weights(sweep: SweepFolder) -> Path:
    run = sweep.runs()[0]
    run.write_result(report_runs.result(1, 2, 0))
    return run.checkpoint


def points_cut(sweep: SweepFolder) -> Path:
    (path,) = sweep.points.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    return path


def line_torn(sweep: SweepFolder) -> Path:
    sweep.log_launch({"at": files.now(), "command": ["launch.py"], "new": []})
    sweep.launches.write_text(sweep.launches.read_text()[:-5] + "\n")
    return sweep.launches


def rung_changed(sweep: SweepFolder) -> Path:
    sweep.write_rung("0123", {"epochs": 1, "metric": "val/elbo", "values": {"a": 1.5}, "kept": ["a"]})
    (path,) = sweep.rungs.iterdir()
    path.write_text(path.read_text().replace("1.5", "2.5"))
    return path


def link(sweep: SweepFolder) -> Path:
    path = sweep.runs()[0].log
    path.symlink_to("/etc/hostname")
    return path


def stale_claim(sweep: SweepFolder) -> Path:
    held = lease.take(sweep.runs()[0].path)
    assert held is not None
    owner = held.path / "owner.json"
    text = owner.read_text()
    copy = held.path.with_name(".claim-7")
    shutil.copytree(held.path, copy)
    held.release()
    (copy / "owner.json").write_text(text.replace(held.owner.boot, "an earlier boot"))
    os.utime(copy / "owner.json", (1, 1))
    return copy


def unfinished_file(sweep: SweepFolder) -> Path:
    path = sweep.runs()[0].path / ".result.json.0123.tmp"
    path.write_text("{")
    return path


def run_gone(sweep: SweepFolder) -> Path:
    path = sweep.runs()[0].path
    shutil.rmtree(path)
    return path


@pytest.mark.parametrize(
    "damage",
    [result_changed, checkpoint_cut, points_cut, line_torn, rung_changed, stale_claim, unfinished_file],
    ids=lambda f: f.__name__,
)
def test_what_is_safe_to_mend_is_named_mended_and_then_gone(damage, sweep, doctor) -> None:
    before = set(sweep.output_dir.rglob("*"))
    path = damage(sweep)
    before |= set() if path.name.startswith(".") else {path, *sweep.output_dir.rglob("*")}
    code, out = doctor()
    assert code == 1
    assert f"{path}: " in out
    assert "1 finding; --fix mends those that are safe to mend" in out
    assert doctor("--fix")[1].startswith(f"mended  {path}: ")
    assert doctor()[0] == 0
    set_aside = {path.with_name(f"{path.name}.damaged")}
    assert set(sweep.output_dir.rglob("*")) - before <= set_aside  # nothing else is left, under whatever name


@pytest.mark.parametrize("damage", [config_changed, no_weights, link, run_gone], ids=lambda f: f.__name__)
def test_what_needs_a_decision_is_named_and_left(damage, sweep, doctor) -> None:
    path = damage(sweep)
    for arguments in ([], ["--fix"]):
        code, out = doctor(*arguments)
        assert code == 1
        assert f"{path}: " in out
        assert "1 finding left" in out


def test_a_run_that_a_process_works_on_is_left_alone(sweep, doctor) -> None:
    held = lease.take(sweep.runs()[0].path)
    assert held is not None
    checkpoint_cut(sweep)
    assert doctor()[0] == 0
    held.release()
    assert doctor()[0] == 1
