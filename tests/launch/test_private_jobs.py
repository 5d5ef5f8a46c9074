"""What a submission writes: nobody else can read it, and no secret stands anywhere else. With stand-ins for SLURM."""

import json
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Ended, ended_command, launch_here
from tests.helpers import slurm_clients
from vae_sweeps.launch import resubmission
from vae_sweeps.launch.folders import check_jobs
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.sweep_folder import SweepFolder, output_dir_option
from vae_sweeps.system import cache, git

SECRET = "s3cret"
SETUP = f"""hydra.launcher.setup=["export WANDB_API_KEY={SECRET} MORE='{SECRET} x'","module load cuda"]"""
HOOKS = f"on_end=['https://hooks.test/{SECRET}','send --key {SECRET}']"
POINT = ["-m", "beta=1", "arch.hidden=[3]", "evaluation=none", "tracker=none", "hydra/launcher=slurm", "sweep=grid"]


@pytest.fixture(autouse=True)
def _slurm(tmp_path: Path, monkeypatch) -> Iterator[None]:
    slurm_clients.install(tmp_path, monkeypatch)
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    return SweepFolder.under(tmp_path / "out", "grid")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def mentions(folder: Path) -> set[Path]:
    """The files in `folder` that contain the secret."""
    return {path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()}


def test_a_secret_stands_only_in_private_files_and_retry_submits_with_it(
    sweep: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch_here(*POINT, SETUP, f"output_dir={sweep.output_dir}") == 0
    assert ended_command(capsys, "report", "grid", "--output-dir", sweep.output_dir).code == 0
    (script,) = sweep.jobs.glob("[0-9]*_submission.sh")
    links = set(sweep.jobs.glob(".submission_file_*"))
    pickled = set(sweep.jobs.glob("*_submitted.pkl"))  # a job may submit its successor, so it knows its settings
    assert mentions(sweep.output_dir) - links == {script, sweep.submission_settings, *pickled}
    assert mode(sweep.jobs) == 0o700
    assert {mode(path) for path in sweep.jobs.iterdir()} == {0o600}
    (run,) = all_runs(sweep.output_dir)
    assert (mode(run.path), mode(run.config), mode(sweep.launches)) == (0o755, 0o644, 0o644)
    assert "hydra.launcher.setup=***" in sweep.read_launches()[0]["command"]
    (submission,) = sweep.read_submissions()
    assert submission["settings"]["launcher"]["setup"] == ["export WANDB_API_KEY=*** MORE=***", "module load cuda"]
    assert "WANDB_API_KEY" not in sweep.report.read_text()

    script.unlink()
    run.write_failure("RuntimeError: none")
    retried = ended_command(capsys, "retry", "grid", "--output-dir", sweep.output_dir)
    assert retried.code == 0, retried.err
    assert f"export WANDB_API_KEY={SECRET} MORE='{SECRET} x'\n" in script.read_text()
    assert SECRET not in retried.out


def test_what_is_called_at_the_end_stands_only_in_private_files_and_retry_keeps_it(sweep: SweepFolder, capsys) -> None:
    assert launch_here(*POINT, HOOKS, f"output_dir={sweep.output_dir}") == 0
    assert ended_command(capsys, "report", "grid", "--output-dir", sweep.output_dir).code == 0
    private = mentions(sweep.output_dir)
    assert sweep.submission_settings in private
    assert {path.parent for path in private} == {sweep.jobs}
    assert {mode(path) for path in sweep.jobs.iterdir()} == {0o600}
    assert "on_end=***" in sweep.read_launches()[0]["command"]
    (run,) = all_runs(sweep.output_dir)
    run.write_failure("RuntimeError: none")
    sweep.submission_settings.write_text(sweep.submission_settings.read_text().replace("send --key", "rm --key"))
    assert "was not written by you here" in retried(sweep, capsys).err
    assert launch_here(*POINT, HOOKS, f"output_dir={sweep.output_dir}") == 0
    run.write_failure("RuntimeError: none")
    again = retried(sweep, capsys)
    assert again.code == 0, again.err
    assert SECRET not in again.out
    hooks = [f"https://hooks.test/{SECRET}", f"send --key {SECRET}"]
    assert resubmission.read(sweep)["options"]["on_end"] == hooks


def retried(sweep: SweepFolder, capsys: pytest.CaptureFixture[str], *more: str) -> Ended:
    return ended_command(capsys, "retry", "grid", *more, "--output-dir", sweep.output_dir)


def test_retry_runs_no_lines_that_the_user_did_not_write(sweep: SweepFolder, capsys, monkeypatch, tmp_path) -> None:
    assert launch_here(*POINT, SETUP, f"output_dir={sweep.output_dir}") == 0
    (run,) = all_runs(sweep.output_dir)
    run.write_failure("RuntimeError: none")
    text = sweep.submission_settings.read_text()
    sweep.submission_settings.write_text(text.replace("module load cuda", "rm -r x"))
    changed = retried(sweep, capsys)
    assert (changed.code, changed.err.count("\n")) == (2, 1)
    assert "was not written by you here" in changed.err
    sweep.submission_settings.write_text(text)
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "another user's cache")
    assert retried(sweep, capsys).code == 2
    sweep.jobs.chmod(0o777)
    opened = retried(sweep, capsys, "--trust")
    assert (opened.code, opened.out) == (2, "")
    assert "others may write to it" in opened.err
    sweep.jobs.chmod(0o755)
    assert retried(sweep, capsys, "--trust").code == 0
    sweep.submission_settings.unlink()
    run.write_failure("RuntimeError: none")
    assert "launch again with the same command" in retried(sweep, capsys).err


def test_a_launch_refuses_jobs_that_others_may_write(sweep: SweepFolder, capsys: pytest.CaptureFixture[str]) -> None:
    sweep.jobs.mkdir(parents=True)
    sweep.jobs.chmod(0o777)
    assert launch_here(*POINT, f"output_dir={sweep.output_dir}") == 2
    assert "others may write to it" in capsys.readouterr().err
    assert list(sweep.path.iterdir()) == [sweep.jobs]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("output_dir=%j", "output_dir=%j: must not contain %, which SLURM replaces in paths"),
        ("sweep=a%Ab", "sweep=a%Ab: must not contain %, which SLURM replaces in paths"),
        ("sweep='a\nb'", r"sweep='a\nb': must not contain line breaks or other control characters"),
        ("output_dir='a\x1b[2J'", r"output_dir='a\x1b[2J': must not contain line breaks or other control characters"),
        ("sweep='-a'", "sweep=-a: must not begin with -, like an option of a command"),
    ],
)
def test_names_that_a_scheduler_or_a_shell_would_change_are_refused(refused, override: str, line: str) -> None:
    assert refused("-m", "beta=1", override) == line


def test_a_percent_sign_in_the_working_folder_is_refused_for_jobs(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "%j").mkdir()
    monkeypatch.chdir(tmp_path / "%j")
    assert launch_here(*POINT, "output_dir=out") == 2
    assert "must not contain %" in capsys.readouterr().err
    assert list((tmp_path / "%j").iterdir()) == []


def test_a_snapshot_below_a_colon_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch_here(*POINT, "hydra.launcher.snapshot=true", f"output_dir='{tmp_path}/a:b'") == 2
    assert capsys.readouterr().err.startswith("error: hydra.launcher.snapshot=true: must be false where")
    assert not (tmp_path / "a:b").exists()
    check_jobs(SweepFolder.under(tmp_path / "a:b", "grid"))  # without a snapshot


def test_a_job_looks_for_code_in_the_snapshot_first(sweep: SweepFolder) -> None:
    """Also where it starts in a checkout: `python -m` puts the current folder before PYTHONPATH."""
    snapshot = "hydra.launcher.snapshot=true"
    assert launch_here(*POINT, SETUP, snapshot, f"output_dir={sweep.output_dir}") == 0
    (code,) = sweep.code.iterdir()
    (script,) = sweep.jobs.glob("[0-9]*_submission.sh")
    lines = [line for line in script.read_text().splitlines() if line.startswith("export PYTHON")]
    asked = "import vae_sweeps; from vae_sweeps.system import git; print(vae_sweeps.__file__, git.commit())"
    (sweep.output_dir / "ask.py").write_text(asked)
    command = "; ".join([*lines, f'PYTHONPATH="$PYTHONPATH:{sweep.output_dir}" {shlex.quote(sys.executable)} -m ask'])
    answer = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert answer.split() == [str(code / "vae_sweeps" / "__init__.py"), str(git.commit_of(ROOT))]


def run_git(source: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, *arguments], cwd=source, check=True, capture_output=True)


def test_the_recorded_diff_leaves_out_configs(tmp_path: Path) -> None:
    """Of what changes numbers, a run's config.yaml has the values."""
    launcher, config = tmp_path / "conf" / "hydra" / "launcher" / "mine.yaml", tmp_path / "conf" / "config.yaml"
    launcher.parent.mkdir(parents=True)
    for path in (launcher, config, tmp_path / "code.py"):
        path.write_text("before\n")
    run_git(tmp_path, "init")
    run_git(tmp_path, "add", ".")
    run_git(tmp_path, "commit", "-m", "first")
    launcher.write_text(f"setup: ['export KEY={SECRET}']\n")
    config.write_text(f"on_end: ['https://host/{SECRET}']\n")
    (tmp_path / "code.py").write_text("after\n")
    assert "+after" in git.diff_of(tmp_path)
    assert SECRET not in git.diff_of(tmp_path)


def test_a_snapshot_keeps_the_commit_of_its_moment(tmp_path: Path) -> None:
    source, code = tmp_path / "source", tmp_path / "code"
    source.mkdir()

    def run(*arguments: str) -> None:
        run_git(source, *arguments)

    run("init")
    (source / "file").write_text("one")
    (source / "untracked").write_text("x")
    (source / "vae_sweeps").mkdir()
    (source / "vae_sweeps" / "new.py").write_text("new = 1")
    run("add", "file")
    run("commit", "-m", "first")
    first = git.commit_of(source)
    clean = git.snapshot(code, source)
    (source / "file").write_text("two")
    dirty = git.snapshot(code, source)
    run("commit", "-am", "second")
    commits = [(copy / ".commit-of-copy").read_text() for copy in (clean, dirty)]
    assert commits == [first, f"{first}-dirty"]
    assert [(copy / "file").read_text() for copy in (clean, dirty)] == ["one", "two"]
    assert not (clean / "untracked").exists()
    assert (clean / "vae_sweeps" / "new.py").read_text() == "new = 1"
    assert sorted(code.iterdir()) == sorted([clean, dirty])


def test_printed_commands_are_quoted(tmp_path: Path) -> None:
    assert output_dir_option(SweepFolder.under(tmp_path / "a b;c", "grid")) == f" --output-dir '{tmp_path}/a b;c'"
    assert output_dir_option(SweepFolder.under("outputs", "grid")) == ""


def test_settings_that_cannot_be_signed_are_kept_and_said(sweep: SweepFolder, monkeypatch, capsys, tmp_path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "file" / "cache")
    assert launch_here(*POINT, f"output_dir={sweep.output_dir}") == 0
    assert "will need --trust" in capsys.readouterr().out
    assert json.dumps(resubmission.read(sweep, is_trusted=True)["launcher"])
    with pytest.raises(ValueError, match="was not written by you here"):
        resubmission.read(sweep)
