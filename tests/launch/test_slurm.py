"""Grids on a real SLURM: submitted, interrupted in every way that clusters know, and done all the same."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

import vae_sweeps
from tests.conftest import launch, start_launch
from tests.helpers import slurm_cluster
from tests.helpers.slurm_cluster import Cluster
from tests.helpers.wandb_runs import assert_same
from tests.helpers.wandb_server import WandbServer
from vae_sweeps.runs.run_folder import RunFolder, runs_folder
from vae_sweeps.runs.sweep_folder import SweepFolder

_WHY_NOT = slurm_cluster.why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(_WHY_NOT is not None, reason=str(_WHY_NOT))]

SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]
SMALL = ["arch.hidden=[16]", "evaluation=none", "log_every_steps=50", "checkpoint_every_s=0.5"]
GRID = ["-m", "beta=0.1,1", "latent=2,5", "sweep=grid", *SMALL]
LONG = [*GRID, "arch.hidden=[100]", "steps=3000"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="vs-") as folder,
        Cluster(Path(folder), max_array_size=3, grace_s=30) as up,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SLURM_CONF", str(up.conf))
        yield up


@pytest.fixture(autouse=True)
def _nothing_left(cluster) -> Iterator[None]:
    yield
    cluster.run("scancel", "--user=root")
    wait_for(lambda: not cluster.run("squeue", "-h"))


def wait_for(condition: Callable[[], object], timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the moment did not come"
        time.sleep(0.1)


def vs(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`vae-sweeps ...` in a process of its own."""
    command = [str(Path(sys.executable).parent / "vae-sweeps"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def wait(output_dir: Path) -> None:
    ended = vs("wait", "grid", "--output-dir", output_dir)
    assert ended.returncode == 0, f"{ended.stdout} {logs(output_dir)}"


def logs(output_dir: Path) -> str:
    found = (output_dir / "sweeps" / "grid" / "jobs").glob("*.err")
    return "\n".join(path.read_text()[-3000:] for path in found)


def table(output_dir: Path) -> pd.DataFrame:
    found = vae_sweeps.results(output_dir / "sweeps" / "grid")
    assert set(found["status"]) == {"done"}
    numbers = [name for name in found if name.startswith(("train/", "val/", "test/"))]
    return pd.DataFrame(found.set_index("run_id")[numbers]).sort_index()


def steps_of(output_dir: Path) -> list[list[int]]:
    return [[row["step"] for row in RunFolder(run).read_rows()] for run in runs_folder(output_dir).iterdir()]


def has_checkpoints(output_dir: Path) -> bool:
    folders = list(runs_folder(output_dir).glob("*"))
    return len(folders) == 4 and all((folder / "checkpoint.pt").exists() for folder in folders)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The long grid by the local launcher, on one thread."""
    output_dir = tmp_path_factory.mktemp("undisturbed")
    assert launch(*LONG, f"output_dir={output_dir}").returncode == 0
    return output_dir


def test_a_grid_is_submitted_done_and_equal_to_the_local_launchers(cluster, tmp_path) -> None:
    short, here, there = [*GRID, "steps=200"], tmp_path / "here", tmp_path / "there"
    submitted = launch(*short, *SLURM, f"output_dir={there}")
    assert submitted.returncode == 0, submitted.stderr
    assert "4 points in 1 pack submitted as 1 job" in submitted.stdout
    assert "vae-sweeps status grid --output-dir" in submitted.stdout
    again = launch(*short, *SLURM, f"output_dir={there}")
    assert "nothing to submit" in again.stdout
    wait(there)
    assert launch(*short, f"output_dir={here}").returncode == 0
    pd.testing.assert_frame_equal(table(there), table(here), check_exact=True)
    wait_for(lambda: (there / "sweeps" / "grid" / "mosaic.png").exists())

    extended = [argument.replace("latent=2,5", "latent=2,5,3") for argument in short]
    more = launch(*extended, *SLURM, f"output_dir={there}")
    assert "4 of 6 points done already" in more.stdout
    assert "2 points in 1 pack submitted as 1 job" in more.stdout
    wait(there)
    assert len(table(there)) == 6
    status = vs("status", "grid", "--output-dir", there)
    assert status.stdout == "grid: 6 done\n"


def runs_by_point(output_dir: Path) -> list[Path]:
    """Run folders in the order of their readable names."""
    return sorted(runs_folder(output_dir).iterdir(), key=lambda run: run.name.rsplit("-", 1)[0])


def submit_long(output_dir: Path, *more: str) -> None:
    submitted = launch(*LONG, *SLURM, *more, f"output_dir={output_dir}")
    assert submitted.returncode == 0, submitted.stderr
    wait_for(lambda: has_checkpoints(output_dir))


def assert_undisturbed(output_dir: Path, undisturbed: Path, *, num_lives: int = 2) -> None:
    """Done, with the numbers of the undisturbed grid to the bit, no step logged twice, after more than one life."""
    wait(output_dir)
    pd.testing.assert_frame_equal(table(output_dir), table(undisturbed), check_exact=True)
    assert sorted(steps_of(output_dir)) == sorted(steps_of(undisturbed))
    for run in runs_folder(output_dir).iterdir():
        assert (run / "log.txt").read_text().count("goes on after step") >= num_lives - 1


def test_usr2_saves_and_requeues(cluster, undisturbed, tmp_path) -> None:
    submit_long(tmp_path)
    cluster.run("scancel", "--signal=USR2", "--user=root")
    assert_undisturbed(tmp_path, undisturbed)


def test_a_preempted_pack_goes_on_where_it_was(cluster, undisturbed, tmp_path, monkeypatch) -> None:
    """SLURM's own preemption: SIGTERM and SIGCONT, and the end of the job after the grace time; one run each on W&B."""
    with WandbServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        submit_long(tmp_path, "hydra.launcher.partition=low", "hydra.launcher.timeout_min=30")
        cluster.run("sbatch", "-p", "high", "-N", "3", "-c", "4", "--wrap", "sleep 5", "-o", "/dev/null")
        assert_undisturbed(tmp_path, undisturbed)
        wait_for(lambda: not cluster.run("squeue", "-h", "-p", "low"))  # the job's end: its points are done before
        assert_same(server, tmp_path)
        # W&B's own process has the grace time to be started again in; it need not be enough for all runs.
        assert any(run.num_preempting for run in server.runs.values())


def test_two_tasks_train_a_pack_and_are_requeued_together(cluster, tmp_path) -> None:
    """In double precision, where the order of sums that two processes change shows as little as it can."""
    double, here, there = [*LONG, "precision=fp64"], tmp_path / "here", tmp_path / "there"
    submitted = launch(*double, *SLURM, "devices=2", f"output_dir={there}")
    assert submitted.returncode == 0, submitted.stderr
    wait_for(lambda: has_checkpoints(there))
    assert "NumTasks=2" in cluster.run("scontrol", "show", "job")
    cluster.run("scancel", "--signal=USR2", "--user=root")
    wait(there)
    assert launch(*double, f"output_dir={here}").returncode == 0
    pd.testing.assert_frame_equal(table(there), table(here), check_exact=False, rtol=1e-6)
    assert sorted(steps_of(there)) == sorted(steps_of(here))
    for run in runs_folder(there).iterdir():
        assert "goes on after step" in (run / "log.txt").read_text()


def test_a_time_limit_is_survived(cluster, undisturbed, tmp_path) -> None:
    """SLURM looks at limits every half minute, so this one trains longer; its first steps are the others' steps."""
    limits = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=55", "hydra.launcher.max_num_timeout=50"]
    submit_long(tmp_path, *limits, "steps=13000")
    wait(tmp_path)
    for run, expected in zip(runs_by_point(tmp_path), runs_by_point(undisturbed), strict=True):
        assert "goes on after step" in (run / "log.txt").read_text()
        steps = [row["step"] for row in RunFolder(run).read_rows()]
        assert steps == sorted(set(steps))
        assert steps[-1] == 13_000
        both = zip(RunFolder(run).read_rows(), RunFolder(expected).read_rows(), strict=False)
        assert all(row["train/elbo"] == other["train/elbo"] for row, other in both)


def test_a_job_out_of_requeues_leaves_its_points_to_the_next_launch(cluster, undisturbed, tmp_path) -> None:
    submit_long(tmp_path, "hydra.launcher.timeout_min=5", "hydra.launcher.max_num_timeout=0")
    cluster.run("scancel", "--signal=USR2", "--user=root")  # within ten minutes' limit every signal is a time limit
    ended = vs("wait", "grid", "--output-dir", tmp_path)
    assert ended.returncode == 1
    assert "4 preempted" in ended.stdout or "4 lost" in ended.stdout
    assert vs("retry", "grid", "--output-dir", tmp_path).returncode == 0
    assert_undisturbed(tmp_path, undisturbed)


def test_a_killed_worker_is_taken_up_by_the_next_launch(cluster, undisturbed, tmp_path) -> None:
    submit_long(tmp_path)
    (run, *_) = runs_folder(tmp_path).iterdir()
    os.kill(int((run / "claim.json").read_text().split('"pid": ')[1].split(",")[0]), signal.SIGKILL)
    assert vs("wait", "grid", "--output-dir", tmp_path).returncode == 1
    lost = vs("status", "grid", "--output-dir", tmp_path).stdout
    assert lost.startswith("grid: 4 lost\n")
    assert launch(*LONG, *SLURM, f"output_dir={tmp_path}").returncode == 0
    assert_undisturbed(tmp_path, undisturbed)


def test_a_failed_node_is_left_for_another(cluster, undisturbed, tmp_path) -> None:
    submit_long(tmp_path)
    (node,) = cluster.run("squeue", "-h", "-o", "%N").split()
    cluster.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    cluster.run("scontrol", "update", f"nodename={node}", "state=resume")
    assert_undisturbed(tmp_path, undisturbed)


def test_a_slurmd_that_is_killed_costs_nothing(cluster, undisturbed, tmp_path) -> None:
    """Its steps work on without it; the job's next life, on another node, leaves them what they hold."""
    submit_long(tmp_path)
    (node,) = cluster.run("squeue", "-h", "-o", "%N").split()
    cluster.stop(f"slurmd-{node}", signal.SIGKILL)
    assert_undisturbed(tmp_path, undisturbed, num_lives=1)
    cluster.start_node(int(node.removeprefix("n")))
    wait_for(lambda: cluster.num_ready() == cluster.num_nodes)


def test_a_cancelled_sweep_stays_cancelled_and_can_be_taken_up(cluster, undisturbed, tmp_path) -> None:
    submit_long(tmp_path)
    assert "1 jobs told to end" in vs("cancel", "grid", "--output-dir", tmp_path).stdout
    wait_for(lambda: not cluster.run("squeue", "-h"))
    assert vs("status", "grid", "--output-dir", tmp_path).stdout.startswith("grid: 4 preempted\n")
    assert vs("retry", "grid", "--output-dir", tmp_path).returncode == 0
    assert_undisturbed(tmp_path, undisturbed)


FRAGILE = """
import os
import torch
from vae_sweeps.likelihoods import Gaussian

class Fragile(Gaussian):
    def log_prob(self, params, x):
        assert os.path.exists(os.environ["CAUSE_IS_GONE"]) or 0.5 not in self.sigma, "sigma is one half"
        return super().log_prob(params, x).masked_fill((self.sigma == 0.7).unsqueeze(1), torch.nan)
"""


def test_guilty_points_leave_their_neighbours_alone_and_can_be_retried(cluster, tmp_path, monkeypatch) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("CAUSE_IS_GONE", str(tmp_path / "gone"))
    sigmas = ["likelihood=gaussian", "likelihood._target_=fragile.Fragile", "likelihood.sigma=0.1,0.5,0.7,1,2,3"]
    out = tmp_path / "out"
    six = ["-m", *sigmas, "sweep=grid", *SMALL, "steps=60", f"output_dir={out}", *SLURM]
    waited = launch(*six, "hydra.launcher.wait=true")
    assert waited.returncode == 1, waited.stderr
    assert "6 points in 1 pack submitted as 1 job" in waited.stdout
    status = vs("status", "grid", "--output-dir", out).stdout
    assert status.startswith("grid: 4 done, 1 diverged, 1 failed\n")
    assert "AssertionError: sigma is one half" in status
    assert "at step 1" in status
    (failed,) = out.glob("runs/*/failure.txt")
    assert "Traceback" in failed.read_text()
    before = {run: (run / "result.json").stat().st_mtime_ns for run in runs_done(out)}
    (tmp_path / "gone").touch()
    assert vs("retry", "grid", "--output-dir", out).returncode == 0
    vs("wait", "grid", "--output-dir", out)
    assert {run: (run / "result.json").stat().st_mtime_ns for run in before} == before
    assert vs("status", "grid", "--output-dir", out).stdout.startswith("grid: 5 done, 1 diverged\n")


def runs_done(output_dir: Path) -> list[Path]:
    return [run for run in runs_folder(output_dir).iterdir() if RunFolder(run).read_result()]


def test_two_launches_at_the_same_moment_train_every_point_once(cluster, tmp_path) -> None:
    arguments = [*GRID, "steps=400", *SLURM, f"output_dir={tmp_path}"]
    for process in [start_launch(*arguments) for _ in range(2)]:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, f"{out} {err}"
    wait(tmp_path)
    wait_for(lambda: not cluster.run("squeue", "-h"))
    for run in runs_folder(tmp_path).iterdir():
        assert "goes on after step" not in (run / "log.txt").read_text()
        steps = [row["step"] for row in RunFolder(run).read_rows()]
        assert steps == sorted(set(steps))


def test_arrays_are_split_at_the_sites_limit(cluster, tmp_path) -> None:
    """MaxArraySize is 3 here; five packs are two arrays, and points of another architecture a third."""
    five = ["-m", "seed=0,1,2,3,4", "sweep=grid", *SMALL, "steps=20", "max_pack=1", f"output_dir={tmp_path}", *SLURM]
    submitted = launch(*five)
    assert "5 points in 5 packs submitted as 5 jobs" in submitted.stdout, submitted.stderr
    wait(tmp_path)
    arrays = {task.split("_")[0] for task in submitted.stdout.split("jobs: ")[1].split("\n")[0].split(", ")}
    assert len(arrays) == 2
    jobs = ["hydra.launcher.points_per_job=2", "sweep=other"]
    together = launch(*[a for a in five if a != "sweep=grid"], "overwrite=true", *jobs)
    assert "5 points in 5 packs submitted as 3 jobs" in together.stdout


def test_points_of_another_architecture_ask_for_what_they_need(cluster, tmp_path) -> None:
    both = ["-m", "arch=mlp,conv", "sweep=grid", "evaluation=none", "steps=5", f"output_dir={tmp_path}", *SLURM]
    submitted = launch(*both, "+hydra.launcher.resources.conv={gpus_per_node:1,cpus_per_task:2}")
    assert "2 points in 2 packs submitted as 2 jobs" in submitted.stdout, submitted.stderr
    wait(tmp_path)
    scripts = [path.read_text() for path in (tmp_path / "sweeps" / "grid" / "jobs").glob("[0-9]*_submission.sh")]
    conv = {"grid-conv" in text: "--gpus-per-node=1" in text and "--cpus-per-task=2" in text for text in scripts}
    assert conv == {True: True, False: False}


NEEDY = """
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

class NeedySweeper(Sweeper):
    def setup(self, *, hydra_context, task_function, config):
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        fixed = [argument for argument in arguments if not argument.startswith("beta=")]
        returned = self.launcher.launch([["beta=0.1", *fixed], ["beta=1", *fixed]], initial_job_idx=0)
        print("values:", [round(one.return_value, 3) for one in returned])

node = {"_target_": "hydra_plugins.needy.NeedySweeper"}
ConfigStore.instance().store(group="hydra/sweeper", name="needy", node=node)
"""


def test_a_sweeper_that_needs_values_gets_them(cluster, tmp_path, monkeypatch) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "needy.py").write_text(NEEDY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out = tmp_path / "out"
    swept = ["-m", "hydra/sweeper=needy", "sweep=grid", *SMALL, "steps=20", *SLURM, f"output_dir={out}"]
    finished = launch(*swept)
    assert finished.returncode == 0, finished.stderr
    assert "the sweeper needs the points' values, so this waits for them" in finished.stdout
    values = vae_sweeps.results(out / "sweeps" / "grid").sort_values("beta")["val/elbo"]
    assert f"values: {[round(value, 3) for value in values]}" in finished.stdout


def of_launcher(argument: str) -> str:
    """partition=low is hydra.launcher.partition=low, and +x=1 is +hydra.launcher.x=1."""
    return "+" * argument.startswith("+") + "hydra.launcher." + argument.removeprefix("+")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["+resources.conv.mem=1"], "hydra.launcher.resources.conv.mem=1: no such key; did you mean mem_gb?"),
        (["partition=nosuch"], "hydra/launcher=slurm: sbatch refuses such a job: invalid partition specified: nosuch"),
        (["gpus_per_node=7"], "hydra/launcher=slurm: sbatch refuses such a job: allocation failure: Requested node"),
        (["timeout_min=0"], "hydra.launcher.timeout_min=0: must be a whole number >= 1"),
        (["packs=some"], "hydra.launcher.packs=some: must be auto, or a whole number >= 1"),
        (["patition=main"], "hydra.launcher.patition=main: no such key; did you mean hydra.launcher.partition?"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(cluster, tmp_path, arguments: list[str], line: str) -> None:
    refused = launch(*GRID, *SLURM[:1], *map(of_launcher, arguments), f"output_dir={tmp_path / 'out'}")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"error: {line}")
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_sbatch_it_says_so(cluster, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    refused = launch(*GRID, *SLURM, f"output_dir={tmp_path / 'out'}")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: hydra/launcher=slurm: no sbatch on this machine")
    assert not (tmp_path / "out").exists()


def test_a_snapshot_is_what_the_jobs_run(cluster, tmp_path) -> None:
    submitted = launch(*GRID, "steps=20", *SLURM, "hydra.launcher.snapshot=true", f"output_dir={tmp_path}")
    assert submitted.returncode == 0, submitted.stderr
    wait(tmp_path)
    (code,) = (tmp_path / "sweeps" / "grid" / "code").iterdir()
    assert (code / "vae_sweeps" / "launch" / "job.py").exists()
    script = next((tmp_path / "sweeps" / "grid" / "jobs").glob("*_submission.sh")).read_text()
    assert f"export PYTHONPATH={code}:" in script


def test_a_sweep_that_does_not_exist_names_those_that_do(tmp_path) -> None:
    SweepFolder.under(tmp_path, "there").add([], [])
    for command in ("status", "wait", "retry", "cancel"):
        refused = vs(command, "nosuch", "--output-dir", tmp_path)
        assert refused.returncode == 2
        assert refused.stderr == f"error: nosuch: no such sweep; sweeps in {tmp_path}: there\n"
