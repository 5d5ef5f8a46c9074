"""`vae-sweeps clean` removes what is no longer needed, and nothing that a process or a job may still need."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ended_command, make_options, make_point
from tests.helpers import report_runs
from vae_sweeps.report import thumbnails
from vae_sweeps.runs import pictures
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import lease, slurm
from vae_sweeps.tracker import view

LONG_AGO = 1_000_000


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    """A sweep of a finished run, which has all that a run can have, and of one that was stopped half-way."""
    done, open_run = (report_runs.make_run(tmp_path / "out", 1, 2, seed) for seed in (0, 1))
    for run in (done, open_run):
        run.checkpoint.write_bytes(b"new")
        run.previous_checkpoint.write_bytes(b"old" * 100)
        run.log.write_text("a line")
        run.wandb_address.write_text("{}")
        run.code_diff.write_text("+ a line")
        for epoch in (50, 100, 150):
            report_runs.draw(run.epoch_pictures(epoch), epoch)
    done.write_result(report_runs.result(1, 2, 0))
    return report_runs.sweep_of(tmp_path / "out", "grid", [done, open_run], ["seed"])


@pytest.fixture
def clean(sweep: SweepFolder, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        ended = ended_command(capsys, "clean", "grid", *arguments, "--output-dir", sweep.output_dir)
        assert ended.code == 0, ended.err
        return ended.out

    return run


def content(folder: Path) -> dict[Path, bytes]:
    """Everything in the folder; folders have no bytes."""
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def aged(path: Path) -> Path:
    """As if nobody had touched it for long."""
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def test_a_finished_run_has_at_most_ten_inodes(sweep: SweepFolder, clean) -> None:
    done, open_run = sweep.runs()
    before = content(open_run.path)
    num_before = len(content(sweep.output_dir)) - 2  # runs/ and sweeps/
    out = clean()
    assert len(content(done.path)) + 1 <= 10
    assert content(open_run.path) == before
    assert "removed 1 inode (0.0 MB): previous checkpoints of finished runs\n" in out
    assert f"grid: {num_before} inodes" in out
    assert f"before, {len(content(sweep.output_dir)) - 2} inodes" in out
    assert "removed" not in clean()


def test_a_dry_run_changes_nothing_and_says_what_the_command_then_does(sweep: SweepFolder, clean) -> None:
    before = content(sweep.output_dir)
    planned = clean("--dry-run")
    assert content(sweep.output_dir) == before
    assert planned.replace("would remove", "removed").replace(" then\n", " now\n") == clean()


def test_the_size_of_packed_pictures_is_known_before(sweep: SweepFolder) -> None:
    run = sweep.runs()[0]
    for _ in range(2):  # into a new archive, and into one that is there
        size = pictures.packed_size(run.pictures, run.packed_pictures)
        assert size == len(pictures.packed(run.pictures, run.packed_pictures))
        run.pack_pictures()
        run.pictures.mkdir()
        (run.pictures / "neighbours.png").write_bytes(b"new")


def test_packed_pictures_are_shown_and_sent_as_before(sweep: SweepFolder, clean) -> None:
    run = sweep.runs()[0]
    rows = [{"step": 55, "num_steps": 100, "epoch": 50.0}, {"step": 100, "num_steps": 100, "epoch": 91.0}]

    def shown() -> list[object]:
        sent = [{name: p.read() for name, p in view.pictures_of_row(run, row).items()} for row in rows]
        assert all(sent)
        return [sent, thumbnails.embed([run], 10**6), {e: list(found) for e, found in run.all_pictures().items()}]

    before = shown()
    clean()
    assert not run.pictures.exists()
    assert shown() == before


def test_pictures_that_are_drawn_later_join_the_packed_ones(sweep: SweepFolder, clean) -> None:
    run = sweep.runs()[0]
    clean()
    packed = {name: picture.read() for name, picture in run.all_pictures()[None].items()}
    assert {epoch: run.pictures_at(epoch) for epoch in run.all_pictures()} == run.all_pictures()
    run.pictures.mkdir()
    (run.pictures / "neighbours.png").write_bytes(b"new")
    (run.pictures / "samples.png").write_bytes(b"newer")
    for _ in range(2):
        found = {name: picture.read() for name, picture in run.all_pictures()[None].items()}
        assert found == packed | {"neighbours": b"new", "samples": b"newer"}
        clean()
    assert not run.pictures.exists()


def test_a_damaged_archive_is_said_and_stays(sweep: SweepFolder, clean, capsys) -> None:
    run = sweep.runs()[0]
    clean()
    whole = run.packed_pictures.read_bytes()
    run.packed_pictures.write_bytes(whole[:-30])
    assert run.all_pictures() == {}
    assert f"{run.packed_pictures}: cannot be read" in capsys.readouterr().out
    run.packed_pictures.write_bytes(whole.replace(whole[2000:2100], bytes(100)))
    run.pictures.mkdir()
    (run.pictures / "neighbours.png").write_bytes(b"new")
    damaged = run.packed_pictures.read_bytes()
    assert f"{run.pictures}: not removed ({run.packed_pictures}/" in clean()
    assert run.packed_pictures.read_bytes() == damaged
    assert run.pictures.exists()
    with pytest.raises(OSError, match=r"pictures.zip"):
        [picture.read() for found in run.all_pictures().values() for picture in found.values() if picture.member]


def test_training_again_starts_without_packed_pictures(sweep: SweepFolder, clean) -> None:
    run = sweep.runs()[0]
    clean()
    run.clear()
    assert run.all_pictures() == {}


@pytest.mark.parametrize("name", [".claim", ".wandb"])
def test_a_run_that_a_process_works_on_is_left_alone(name: str, sweep: SweepFolder, clean) -> None:
    held = lease.take(sweep.runs()[0].path, name)
    assert held is not None
    aged(unfinished_file(sweep.runs()[0]))
    before = content(sweep.output_dir)
    assert "left alone 1 run that a process or a job may work on" in clean()
    assert content(sweep.output_dir) == before
    held.release()


def unfinished_file(run: RunFolder) -> Path:
    path = run.path / ".metrics.jsonl.0123.tmp"
    path.write_text("{")
    return path


def test_what_killed_processes_left_is_removed_once_it_is_old(sweep: SweepFolder, clean) -> None:
    run = sweep.runs()[1]
    left = unfinished_file(run)
    half = sweep.code / ".0123abcd.tmp"
    (half / "vae_sweeps").mkdir(parents=True)
    clean()
    assert left.exists()  # it may be of a process that has just begun
    assert half.exists()
    aged(left)
    aged(half)
    claim, choosing = run.path / ".claim-3", sweep.path / f"{sweep.CHOOSING}-1"
    for folder in (claim, choosing):
        folder.mkdir()
        aged(folder)
    assert "unfinished files and claims of killed processes" in clean()
    assert not any(path.exists() for path in (left, half, claim, choosing))
    assert run.checkpoint.exists()
    assert run.previous_checkpoint.exists()


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets what a stand-in for squeue answers, at first nothing."""
    program = tmp_path / "bin" / "squeue"
    program.parent.mkdir()

    def answers(lines: str) -> None:
        program.write_text(f"#!/bin/sh\n{lines}\n")
        program.chmod(0o755)

    answers("true")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return answers


OF_JOBS = ["7_submission.sh", "8_submission.sh"]
OF_JOBS += [f"{task}_{kind}" for task in ("7_0", "7_1", "8") for kind in ("submitted.pkl", "0_log.out", "0_result.pkl")]


@pytest.fixture
def submitted(sweep: SweepFolder) -> SweepFolder:
    """Task 7_0 trains the finished run, and 7_1 and 8 train the other; with the code of their launch."""
    done, open_run = sweep.runs()
    sweep.log_submission({"7_0": [done.name], "7_1": [open_run.name], "8": [open_run.name]}, {})
    sweep.jobs.mkdir(mode=0o700)
    for name in [*OF_JOBS, "settings.json", "7_0_1_log.err", "notes.txt"]:
        (sweep.jobs / name).write_text("text")
    code = sweep.code / "0123abc-01234567"
    code.mkdir(parents=True)
    (code / ".commit-of-copy").write_text("0123abc")
    aged(code)
    return sweep


def left_of_jobs(sweep: SweepFolder) -> set[str]:
    return {path.name for path in sweep.jobs.iterdir()} - {"settings.json", "notes.txt"}


def test_files_of_jobs_go_when_their_points_have_ended(submitted: SweepFolder, clean, queue) -> None:
    clean()
    # For retry, and to see why the point was lost.
    assert left_of_jobs(submitted) == {name for name in OF_JOBS if not name.startswith("7_0")}
    assert not submitted.code.joinpath("0123abc-01234567").exists()  # retry makes a copy of its own
    submitted.runs()[1].write_failure("RuntimeError: none")
    clean()
    assert left_of_jobs(submitted) == set()
    assert {path.name for path in submitted.jobs.iterdir()} == {"settings.json", "notes.txt"}


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "REQUEUE_HOLD"])
def test_files_of_a_job_in_the_queue_stay(state: str, submitted: SweepFolder, clean, queue) -> None:
    """Also where all its points have ended: it may evaluate them, or be started again."""
    queue(f"echo '7_0|{state}|None'")
    submitted.runs()[1].write_failure("RuntimeError: none")
    before = content(submitted.runs()[0].path)
    clean()
    of_the_task = {name for name in [*OF_JOBS, "7_0_1_log.err"] if name.startswith("7_0")}
    assert left_of_jobs(submitted) == {"7_submission.sh", *of_the_task}
    assert content(submitted.runs()[0].path) == before
    assert any(submitted.code.iterdir())


def test_nothing_is_removed_where_the_queue_is_not_known(submitted: SweepFolder, capsys, queue, monkeypatch) -> None:
    monkeypatch.setattr(slurm, "_PAUSES_S", ())
    queue("echo 'Unable to contact slurm controller' >&2; exit 1")
    before = content(submitted.output_dir)
    ended = ended_command(capsys, "clean", "grid", "--output-dir", submitted.output_dir)
    assert (ended.code, ended.err) == (2, "error: squeue: Unable to contact slurm controller\n")
    assert content(submitted.output_dir) == before


def test_files_of_processes_on_this_machine_go_when_the_sweep_has_ended(sweep: SweepFolder, clean, queue) -> None:
    sweep.jobs.mkdir(mode=0o700)
    names = ["4711_submission.sh", "4711_submitted.pkl", "4711_0_log.out", "4711_0_log.err", f"{'0' * 32}.pkl"]
    for name in names:
        (sweep.jobs / name).write_text("text")
        aged(sweep.jobs / name)
    clean()
    assert left_of_jobs(sweep) == set(names)
    sweep.runs()[1].write_result(report_runs.result(1, 2, 1))
    queue("echo '4711|PENDING|None'")
    clean()
    assert left_of_jobs(sweep) >= set(names[:4])  # a submission that was not recorded
    queue("true")
    clean()
    assert left_of_jobs(sweep) == set()


def test_a_run_of_an_earlier_version_keeps_its_launch_options(tmp_path: Path) -> None:
    run, options = RunFolder.under(tmp_path, "run"), make_options("device=cpu", "tracker=none")
    run.create(make_point(), options, ["device=cpu"])
    assert run.read_launch_options() == options
    text = run.launch_options.read_text()
    run.earlier_launch_options.parent.mkdir()
    lines = [line.removeprefix("  ") for line in text.partition("\noptions:\n")[2].splitlines()]
    later = ("keep_previous_checkpoint:", "optimized_metric:", "graphs:")
    assert sum(line.startswith(later) for line in lines) == 3
    run.earlier_launch_options.write_text("".join(f"{line}\n" for line in lines if not line.startswith(later)))
    run.launch_options.unlink()
    assert run.read_launch_options() == options
