"""Submissions that find no room in the queue: as much as there is room for, nothing left over, the rest later."""

from pathlib import Path

import pytest

from tests.conftest import ended_command, launch_here
from tests.helpers import slurm_clients
from vae_sweeps.launch.again import submit_rest
from vae_sweeps.runs import job_files
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import cache

FIVE = ["-m", "seed=0,1,2,3,4", "arch.hidden=[3]", "evaluation=none", "tracker=none", "max_pack=1", "sweep=grid"]
FIVE += ["hydra/launcher=slurm", "output_dir=out"]  # a relative path, as by default

# Accepts arrays as long as the user has no more than `limit` jobs, and counts how often it was asked.
SBATCH = """[ "$1" = --test-only ] && exit 0
echo x >> {folder}/asked
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
jobs=$(( $(cat {folder}/jobs) + ${{last:-0}} + 1 ))
if [ $jobs -gt $(cat {folder}/limit) ]; then echo "sbatch: error: AssocMaxSubmitJobLimit" >&2; exit 1; fi
echo $jobs > {folder}/jobs
echo "Submitted batch job $((100 + jobs))"
"""


class Site:
    """A site with a limit of jobs a user, whose jobs never end."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        slurm_clients.install(folder, patch, sbatch=SBATCH.format(folder=folder))
        (folder / "jobs").write_text("0")

    def allow(self, limit: int) -> None:
        (self.folder / "limit").write_text(str(limit))

    def num_asked(self) -> int:
        return len((self.folder / "asked").read_text().splitlines())


@pytest.fixture
def site(tmp_path: Path, monkeypatch) -> Site:
    made = Site(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    made.allow(3)
    return made


def sweep() -> SweepFolder:
    return SweepFolder.under("out", "grid")


def test_as_many_as_there_is_room_for_and_the_rest_later(site: Site, capsys) -> None:
    assert launch_here(*FIVE) == 0
    said = capsys.readouterr().out
    assert "3 points in 3 packs submitted as 3 jobs: " in said
    assert "sbatch takes no more jobs now: AssocMaxSubmitJobLimit" in said
    assert "2 points left; when there is room, this submits them: vae-sweeps wait grid" in said
    assert len(sweep().submitted().unsubmitted) == 2
    # Of each job that was refused, submitit had written a pickle and a script.
    assert not job_files.unnumbered(sweep().jobs)

    asked = site.num_asked()
    assert submit_rest(sweep())
    assert site.num_asked() == asked + 1  # a full queue is asked once
    site.allow(5)
    assert submit_rest(sweep())
    assert not sweep().submitted().unsubmitted
    assert sorted(sweep().submitted().task_of) == sorted(run.name for run in sweep().runs())


def test_another_launch_keeps_what_this_one_has_left(site: Site) -> None:
    assert launch_here(*FIVE) == 0
    left = set(sweep().submitted().unsubmitted)
    assert launch_here(*[argument.replace("seed=0,1,2,3,4", "seed=7") for argument in FIVE]) == 0
    assert left < set(sweep().submitted().unsubmitted)
    assert len(sweep().submitted().unsubmitted) == 3


def test_workers_without_room_leave_each_point_once(site: Site) -> None:
    site.allow(0)
    assert launch_here(*FIVE, "hydra.launcher.elastic=true", "hydra.launcher.packs=3") == 0
    assert sorted(sweep().submitted().unsubmitted) == sorted(run.name for run in sweep().runs())


def test_what_another_user_has_left_is_not_waited_for(site: Site, capsys, tmp_path, monkeypatch) -> None:
    assert launch_here(*FIVE) == 0
    capsys.readouterr()
    asked = site.num_asked()
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "another user's cache")
    waited = ended_command(capsys, "wait", "grid", "--output-dir", "out")
    assert waited.code == 1
    assert "the points that are left are not submitted here" in waited.out + waited.err
    assert site.num_asked() == asked


def test_cancelling_a_sweep_submits_nothing_more(site: Site, capsys) -> None:
    assert launch_here(*FIVE) == 0
    assert ended_command(capsys, "cancel", "grid", "--output-dir", "out").code == 0
    assert not sweep().submitted().unsubmitted
