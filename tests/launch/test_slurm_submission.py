"""What is submitted to a real SLURM: arrays, resources, snapshots; and which mistakes are refused before that."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vae_sweeps
from tests.conftest import launch, vs
from tests.helpers.slurm_cluster import Cluster
from tests.helpers.slurm_sweeps import GRID, NEEDS_SLURM, SLURM, SMALL, of_launcher, running_cluster, wait
from vae_sweeps.runs.sweep_folder import SweepFolder

pytestmark = NEEDS_SLURM


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(num_nodes=1, accounting=False, max_array_size=3) as up:
        yield up


def test_arrays_are_split_at_max_array_size(cluster, tmp_path) -> None:
    """MaxArraySize is 3 here, so five packs are split into two arrays."""
    five = ["-m", "seed=0,1,2,3,4", "sweep=grid", *SMALL, "steps=20", "max_pack=1", f"output_dir={tmp_path}", *SLURM]
    planned = launch(*five, "hydra.launcher.timeout_min=7", "--dry-run")
    assert "5 jobs (mlp), each with timeout_min=7 cpus_per_task=1 nodes=1 mem_gb=1\n" in planned.stdout, planned.stderr
    assert list(tmp_path.iterdir()) == []
    submitted = launch(*five)
    assert "5 points in 5 packs submitted as 5 jobs" in submitted.stdout, submitted.stderr
    wait(tmp_path)
    arrays = {task.split("_")[0] for task in submitted.stdout.split("jobs: ")[1].split("\n")[0].split(", ")}
    assert len(arrays) == 2
    jobs = ["hydra.launcher.points_per_job=2", "sweep=other"]
    together = launch(*[a for a in five if a != "sweep=grid"], "overwrite=true", *jobs)
    assert "5 points in 5 packs submitted as 3 jobs" in together.stdout


def test_each_architecture_requests_its_own_resources(cluster, tmp_path) -> None:
    both = ["-m", "arch=mlp,conv", "sweep=grid", "evaluation=none", "steps=5", f"output_dir={tmp_path}", *SLURM]
    submitted = launch(*both, "device=cpu", "+hydra.launcher.resources.conv={gpus_per_node:1,cpus_per_task:2}")
    assert "2 points in 2 packs submitted as 2 jobs" in submitted.stdout, submitted.stderr
    wait(tmp_path)
    scripts = [path.read_text() for path in (tmp_path / "sweeps" / "grid" / "jobs").glob("[0-9]*_submission.sh")]
    conv = {"grid-conv" in text: "--gpus-per-node=1" in text and "--cpus-per-task=2" in text for text in scripts}
    assert conv == {True: True, False: False}


VALUE_SWEEPER = """
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

class ValueSweeper(Sweeper):
    def setup(self, *, hydra_context, task_function, config):
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        fixed = [argument for argument in arguments if not argument.startswith("beta=")]
        returned = self.launcher.launch([["beta=0.1", *fixed], ["beta=1", *fixed]], initial_job_idx=0)
        print("values:", [round(job.return_value, 3) for job in returned])

node = {"_target_": "hydra_plugins.value_sweeper.ValueSweeper"}
ConfigStore.instance().store(group="hydra/sweeper", name="values", node=node)
"""


def test_a_sweeper_that_needs_values_gets_them(cluster, tmp_path, monkeypatch) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "value_sweeper.py").write_text(VALUE_SWEEPER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out = tmp_path / "out"
    swept = ["-m", "hydra/sweeper=values", "sweep=grid", *SMALL, "steps=20", *SLURM, f"output_dir={out}"]
    finished = launch(*swept)
    assert finished.returncode == 0, finished.stderr
    assert "the sweeper needs the points' values; waiting for them" in finished.stdout
    values = vae_sweeps.results(out / "sweeps" / "grid").sort_values("beta")["val/elbo"]
    assert f"values: {[round(value, 3) for value in values]}" in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["+resources.conv.mem=1"], "hydra.launcher.resources.conv.mem=1: no such key; did you mean mem_gb?"),
        (["partition=nosuch"], "hydra/launcher=slurm: sbatch rejects such a job: invalid partition specified: nosuch"),
        (["gpus_per_node=7"], "hydra/launcher=slurm: sbatch rejects such a job: allocation failure: Requested node"),
        (["timeout_min=0"], "hydra.launcher.timeout_min=0: must be a whole number >= 1"),
        (["packs=some"], "hydra.launcher.packs=some: must be auto, or a whole number >= 1"),
        (["patition=main"], "hydra.launcher.patition=main: no such key; did you mean hydra.launcher.partition?"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(cluster, tmp_path, arguments: list[str], line: str) -> None:
    refused = launch(*GRID, *SLURM[:1], *map(of_launcher, arguments), f"output_dir={tmp_path / 'out'}")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"error: {line}")
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_machine_without_sbatch_is_reported(cluster, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    refused = launch(*GRID, *SLURM, f"output_dir={tmp_path / 'out'}")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: hydra/launcher=slurm: no sbatch on this machine")
    assert not (tmp_path / "out").exists()


def test_jobs_run_the_snapshot(cluster, tmp_path) -> None:
    submitted = launch(*GRID, "steps=20", *SLURM, "hydra.launcher.snapshot=true", f"output_dir={tmp_path}")
    assert submitted.returncode == 0, submitted.stderr
    wait(tmp_path)
    (code,) = (tmp_path / "sweeps" / "grid" / "code").iterdir()
    assert (code / "vae_sweeps" / "launch" / "job.py").exists()
    script = next((tmp_path / "sweeps" / "grid" / "jobs").glob("*_submission.sh")).read_text()
    assert f"export PYTHONPATH={code}:" in script


def test_an_unknown_sweep_is_reported_with_the_known_ones(tmp_path) -> None:
    SweepFolder.under(tmp_path, "there").add([], [])
    for command in ("status", "wait", "retry", "cancel"):
        refused = vs(command, "nosuch", "--output-dir", tmp_path)
        assert refused.returncode == 2
        assert refused.stderr == f"error: nosuch: no such sweep; sweeps in {tmp_path}: there\n"
