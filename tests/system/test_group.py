"""People of one group work in one folder: umask 002, and a folder whose setgid bit hands its group on. Needs root."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Numbers that need no entry in /etc/passwd.
ANNA, BEN, GROUP = 61_001, 61_002, 61_000

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder of the group, outside the folder of pytest, which is root's alone."""
    with tempfile.TemporaryDirectory(prefix="vs-group-") as folder:
        os.chmod(folder, 0o755)
        group = Path(folder) / "group"
        group.mkdir()
        os.chown(group, ANNA, GROUP)
        group.chmod(0o2775)
        yield group


@pytest.fixture
def run_as(shared: Path) -> Run:
    """Runs Python as a user whose own group is another one, with a cache in the shared folder."""

    def run(user: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        home = shared.parent / str(user)
        if not home.exists():
            home.mkdir()
            os.chown(home, user, user)
        # It may read everything, since the interpreter may be root's; what it may write is what counts here.
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", f"--groups={GROUP}"]
        become += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        environment = {"HOME": str(home), "XDG_CACHE_HOME": str(shared / "cache"), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [*become, sys.executable, *arguments],
            env=os.environ | environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=240,
            umask=0o002,
        )

    if (tried := run(ANNA, "-c", "import vae_sweeps.runs.claims")).returncode:
        pytest.skip(f"no other user can run Python here: {tried.stderr[-100:]}")
    return run


def closed(folder: Path) -> list[str]:
    """What the group may not read and write, or does not own, apart from private files."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.stat().st_gid != GROUP or path.stat().st_mode & 0o060 != 0o060
    ]


BEGIN = """
import os, sys
from pathlib import Path
from vae_sweeps.runs import claims
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
sweep = SweepFolder.under(sys.argv[1], "grid")
sweep.add(["run-1"], ["beta"])
sweep.log_launch({"at": "now", "command": ["launch.py"], "new": []})
(run,) = sweep.runs()
run.path.mkdir(parents=True, exist_ok=True)
with claims.taken([run]) as claimed:
    for ours in claimed:
        print("claimed", flush=True)
        with ours.prepared(ours.epoch_pictures(1)) as target:
            (target / "samples.png").write_text(str(os.getuid()))
        if ours.checkpoint.exists():
            ours.keep(ours.checkpoint, ours.previous_checkpoint)
        ours.write(ours.checkpoint, str(os.getuid()))
        if sys.argv[2] == "die":
            os._exit(1)
        ours.clear(keep_training=False)
        ours.write_result({"status": "done", "step": 1})
print("end")
"""


def test_a_group_takes_over_the_claim_and_the_files_of_a_dead_process(shared: Path, run_as: Run) -> None:
    out = shared / "out"
    begun = run_as(ANNA, "-c", BEGIN, str(out), "die")
    assert begun.stdout == "claimed\n", begun.stderr
    assert closed(shared) == []
    claim = next(out.glob("runs/run-1/.claim-1"))
    assert claim.stat().st_uid == ANNA
    ended = run_as(BEN, "-c", BEGIN, str(out), "finish")
    assert ended.stdout == "claimed\nend\n", ended.stderr
    assert closed(shared) == []
    assert {path.name for path in (out / "runs" / "run-1").iterdir()} == {"result.json"}
    assert (out / "sweeps" / "grid" / "launches.jsonl").read_text().count("\n") == 2


ASK = """
import os, sys
from pathlib import Path
from vae_sweeps.launch import resubmission
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import private
sweep = SweepFolder.under(sys.argv[1], "grid")
private.make_folder(sweep.jobs)
private.write(sweep.submission_settings, "secret of " + str(os.getuid()))
print(sweep.jobs.name, resubmission._key() == resubmission._key())
"""


@pytest.mark.slow
def test_each_user_of_a_sweep_and_of_a_cache_has_private_files_of_their_own(shared: Path, run_as: Run) -> None:
    answers = {user: run_as(user, "-c", ASK, str(shared / "out")) for user in (ANNA, BEN, ANNA)}
    assert {user: answer.stdout for user, answer in answers.items()} == {
        ANNA: "jobs True\n",
        BEN: f"jobs-{BEN} True\n",
    }, [answer.stderr for answer in answers.values()]
    modes = {
        (path.name, path.stat().st_uid, stat.S_IMODE(path.stat().st_mode) & 0o077)
        for pattern in ("out/sweeps/grid/jobs*/*", "cache/vae-sweeps/*.key")
        for path in shared.glob(pattern)
    }
    assert modes == {
        ("settings.json", ANNA, 0),
        ("settings.json", BEN, 0),
        ("submissions.key", ANNA, 0),
        (f"submissions-{BEN}.key", BEN, 0),
    }


GRID = ["-m", "beta=0.1,1", "sweep=grid", "arch.hidden=[40]", "steps=1500", "log_every_steps=50", "tracker=none"]
GRID += ["evaluation.fid=true", "checkpoint_every_s=0.1"]
KILLED = """
import os, runpy, sys
from vae_sweeps.runs import checkpoint
save, number = checkpoint.save, iter(range(10**9))
def save_and_die(run, content):
    save(run, content)
    if next(number) == 6:
        os.kill(os.getpid(), 9)
checkpoint.save = save_and_die
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_a_second_user_resumes_what_the_first_began_and_reads_the_cache(shared: Path, run_as: Run) -> None:
    out = shared / "out"
    launch = str(ROOT / "launch.py")
    killed = run_as(ANNA, "-c", KILLED, launch, *GRID, f"output_dir={out}")
    assert killed.returncode == -9, killed.stderr
    assert closed(out) == []
    resumed = run_as(BEN, launch, *GRID, f"output_dir={out}")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "resumes after step" in resumed.stdout
    assert closed(shared) == []
    made = {path: path.stat().st_mtime_ns for path in (shared / "cache" / "vae-sweeps").iterdir()}
    assert made
    (vs,) = [str(Path(sys.executable).parent / "vae-sweeps")]
    for user in (ANNA, BEN):
        for command in ("clean", "results", "report", "doctor"):
            ended = run_as(user, vs, command, "grid", "--output-dir", str(out))
            assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
    again = run_as(ANNA, launch, *GRID, f"output_dir={out}")
    assert again.returncode == 0, again.stderr
    assert "2 of 2 points already done" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert closed(shared) == []
