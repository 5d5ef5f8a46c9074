"""Folders whose files are run belong to the user alone."""

import os
import stat
from pathlib import Path

import pytest

from vae_sweeps.system import private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep" / "jobs"
    private.make_folder(folder)
    private.write(folder / "7_submission.sh", "true")
    (folder / ".submission_file_0123.sh").symlink_to(folder / "7_submission.sh")  # as submitit leaves it
    return folder


def test_only_the_user_can_read_them_whatever_the_umask(tmp_path: Path, jobs: Path) -> None:
    before = os.umask(0)
    try:
        private.make_folder(tmp_path / "open")
        private.write(tmp_path / "open" / "settings", "text")
    finally:
        os.umask(before)
    assert mode(jobs) == mode(tmp_path / "open") == 0o700
    assert mode(jobs / "7_submission.sh") == mode(tmp_path / "open" / "settings") == 0o600
    assert mode(jobs.parent) == 0o777 & ~before
    private.check(jobs)
    private.check(tmp_path / "absent")


def test_scripts_and_pickles_are_closed_and_logs_are_not_touched(jobs: Path) -> None:
    for name in ("8_submission.sh", "8_submitted.pkl", "8_0_log.out"):
        (jobs / name).touch(mode=0o644)
    private.close_files(jobs)
    assert {mode(path) for path in jobs.iterdir() if path.suffix != ".out"} == {0o600}
    assert mode(jobs / "8_0_log.out") == 0o644


def test_a_folder_that_others_can_read_is_closed(jobs: Path) -> None:
    jobs.chmod(0o755)
    private.make_folder(jobs)
    assert mode(jobs) == 0o700


def test_a_folder_or_file_that_others_may_write_is_refused(jobs: Path) -> None:
    (jobs / "7_submission.sh").chmod(0o666)
    private.check(jobs)  # nobody else can reach it
    jobs.chmod(0o755)
    with pytest.raises(ValueError, match=r"7_submission.sh: others may write to it"):
        private.check(jobs)
    jobs.chmod(0o770)
    with pytest.raises(ValueError, match=r"jobs: others may write to it"):
        private.make_folder(jobs)


def test_someone_elses_folder_is_refused(jobs: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: jobs.stat().st_uid + 1)
    with pytest.raises(ValueError, match=r"jobs: belongs to user \d+, not to you"):
        private.check(jobs)


def test_where_someone_else_has_a_private_folder_the_user_has_one_beside_it(jobs: Path, monkeypatch) -> None:
    assert private.own(jobs) == jobs
    assert private.own(jobs.with_name("absent")) == jobs.with_name("absent")
    user = jobs.stat().st_uid + 1
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert private.own(jobs) == jobs.with_name(f"jobs-{user}")
    assert private.own(jobs / "7_submission.sh") == jobs / f"7_submission-{user}.sh"


def test_links_to_scripts_that_submitit_leaves_are_removed(jobs: Path) -> None:
    assert len(list(jobs.iterdir())) == 2
    private.close_files(jobs)
    assert [path.name for path in jobs.iterdir()] == ["7_submission.sh"]


def test_links_are_refused(jobs: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(jobs)
    with pytest.raises(ValueError, match="must not be a link"):
        private.check(tmp_path / "link")
    (jobs / "8_0_log.out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"8_0_log.out: must not be a link"):
        private.check(jobs)
