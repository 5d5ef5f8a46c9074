"""Packs that train in several tasks on a real SLURM: on two nodes, on taken ports, requeued; and the tasks' threads."""

import contextlib
import os
import random
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import vae_sweeps
from tests.conftest import ROOT, launch, vs
from tests.helpers.slurm_cluster import Cluster
from tests.helpers.slurm_sweeps import (
    GRID,
    LONG,
    NEEDS_SLURM,
    SLURM,
    SMALL,
    has_checkpoints,
    logs,
    running_cluster,
    steps_of,
    table,
    wait,
    wait_for,
)
from vae_sweeps.runs.run_folder import runs_folder

pytestmark = NEEDS_SLURM

# The pretend nodes share this machine's CPUs, so tasks of two nodes would be bound to the same one.
UNBOUND = "hydra.launcher.srun_args=['--cpu-bind=none']"
NODES = [*SLURM, UNBOUND, "devices=2", "hydra.launcher.nodes=2"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(task_plugin="task/affinity") as up:
        yield up


def ranks_of(job: str, cluster: Cluster) -> list[dict[str, str]]:
    """The environment of each rank of the job, by rank."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and b"\0-m\0submitit.core._submit\0" in (folder / "cmdline").read_bytes():
                entries = (folder / "environ").read_bytes().decode().split("\0")
                found.append(dict(entry.split("=", 1) for entry in entries if "=" in entry))
        except OSError:  # the process has ended
            continue
    ids = {"SLURM_CONF": str(cluster.conf), "SLURM_JOB_ID": job}
    # Without srun itself, which has the ranks' command line and runs in the batch script's environment.
    ranks = [rank for rank in found if ids.items() <= rank.items() and "SLURM_STEP_NODELIST" in rank]
    return sorted(ranks, key=lambda rank: int(rank["SLURM_PROCID"]))


def test_two_nodes_train_a_pack_and_are_requeued_together(cluster, tmp_path) -> None:
    """In double precision, so that the different order of sums in two processes changes the numbers least."""
    double, here, there = [*LONG, "steps=1000", "precision=fp64"], tmp_path / "here", tmp_path / "there"
    interfaces = """hydra.launcher.setup=["export NCCL_SOCKET_IFNAME=lo","export GLOO_SOCKET_IFNAME=lo"]"""
    submitted = launch(*double, *NODES, interfaces, f"output_dir={there}")
    assert submitted.returncode == 0, submitted.stderr
    wait_for(lambda: has_checkpoints(there))
    (job,) = cluster.run("squeue", "-h", "-o", "%A").split()
    described = cluster.run("scontrol", "show", "job", job)
    assert "NumNodes=2 " in described or "NumNodes=2-2 " in described  # running, or waiting
    assert "NumTasks=2 " in described
    ranks = ranks_of(job, cluster)
    assert [(rank["SLURM_PROCID"], rank["SLURM_LOCALID"]) for rank in ranks] == [("0", "0"), ("1", "0")]
    assert ranks[0]["SLURMD_NODENAME"] != ranks[1]["SLURMD_NODENAME"]
    assert {(rank["NCCL_SOCKET_IFNAME"], rank["GLOO_SOCKET_IFNAME"]) for rank in ranks} == {("lo", "lo")}
    cluster.run("scancel", "--signal=USR2", "--user=root")
    wait(there)
    assert launch(*double, f"output_dir={here}").returncode == 0
    pd.testing.assert_frame_equal(table(there), table(here), check_exact=False, rtol=1e-6)
    assert sorted(steps_of(there)) == sorted(steps_of(here))
    for run in runs_folder(there).iterdir():
        assert "resumes after step" in (run / "log.txt").read_text()
    assert not list((there / "sweeps" / "grid" / "jobs").glob("*.rendezvous*"))


def test_an_interface_that_does_not_exist_is_named(cluster, tmp_path) -> None:
    setup = """hydra.launcher.setup=["export GLOO_SOCKET_IFNAME=ib7"]"""
    assert launch(*GRID, "steps=20", *NODES, setup, f"output_dir={tmp_path}").returncode == 0
    assert vs("wait", "grid", "--output-dir", tmp_path).returncode == 1
    assert "cannot connect to the others" in logs(tmp_path)
    assert "ib7" in logs(tmp_path)


def test_a_port_that_another_program_holds_does_not_matter(cluster, tmp_path) -> None:
    """submitit computes a job's port from its id; here every port is held that it would give the next jobs."""
    held = int(cluster.run("sbatch", "--parsable", "--hold", "-o", "/dev/null", "--wrap", "true"))
    ports = {held + more: random.Random(str(held + more)).randint(20_000, 60_000) for more in range(1, 10)}
    with contextlib.ExitStack() as listeners:
        for port in ports.values():
            with contextlib.suppress(OSError):  # another program holds it already
                listeners.enter_context(socket.create_server(("", port)))
        submitted = launch(*GRID, "steps=20", *SLURM, UNBOUND, "devices=2", f"output_dir={tmp_path}")
        assert int(submitted.stdout.split("submitted as 1 job: ")[1].split()[0]) in ports
        wait(tmp_path)
    assert len(table(tmp_path)) == 4


def test_nodes_multiply_what_a_task_asks_for_by_the_tasks_of_a_node(cluster, tmp_path) -> None:
    asks = [UNBOUND, "devices=4", "hydra.launcher.nodes=2", "hydra.launcher.gres=gpu:1", "device=cpu"]
    assert launch(*GRID, "steps=5", *SLURM, *asks, f"output_dir={tmp_path}").returncode == 0
    (job,) = {row.split("|")[0] for row in cluster.run("squeue", "-h", "-o", "%A|").split()}
    described = cluster.run("scontrol", "show", "job", job)
    assert "NumNodes=2 " in described or "NumNodes=2-2 " in described  # running, or waiting
    assert "NumTasks=4 " in described
    assert "TresPerNode=gres/gpu:2" in described or "TresPerNode=gres:gpu:2" in described
    assert "mem=4G," in described
    wait(tmp_path)
    assert len(table(tmp_path)) == 4


def test_nodes_that_do_not_divide_the_devices_are_one_line(cluster, tmp_path) -> None:
    refused = launch(*GRID, *SLURM, "devices=3", "hydra.launcher.nodes=2", f"output_dir={tmp_path / 'out'}")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: hydra.launcher.nodes=2: must divide devices=3, since every node gets")
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


WITNESS = """
import os
from pathlib import Path
import torch
from vae_sweeps.likelihoods import Gaussian

class Witness(Gaussian):
    def log_prob(self, params, x):
        Path(os.environ["SEEN"]).write_text(f"{len(os.sched_getaffinity(0))} {torch.get_num_threads()}")
        return super().log_prob(params, x)
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.parametrize(
    ("more", "cpus_and_threads"),
    [
        pytest.param([], "2 2", id="a task has the CPUs of its job"),
        pytest.param(["""hydra.launcher.setup=["unset SRUN_CPUS_PER_TASK"]"""], "1 1", id="no more threads than CPUs"),
    ],
)
def test_a_task_bound_to_cores(cluster, tmp_path, monkeypatch, more: list[str], cpus_and_threads: str) -> None:
    (tmp_path / "witness.py").write_text(WITNESS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    one = ["-m", "likelihood=gaussian", "likelihood._target_=witness.Witness", "sweep=grid", *SMALL, "steps=5"]
    bound = ["hydra/launcher=slurm", "hydra.launcher.mem_gb=1", "hydra.launcher.cpus_per_task=2"]
    bound += ["hydra.launcher.srun_args=['--cpu-bind=cores']", *more]
    submitted = launch(*one, *bound, f"output_dir={tmp_path / 'out'}")
    assert submitted.returncode == 0, submitted.stderr
    wait(tmp_path / "out")
    assert (tmp_path / "seen").read_text() == cpus_and_threads
    assert set(vae_sweeps.results(tmp_path / "out" / "sweeps" / "grid")["status"]) == {"done"}


def test_submission_works_from_inside_a_job_that_is_bound_to_cores(cluster, tmp_path) -> None:
    """As on a small login node, where users work in a job of their own."""
    command = ["python", "launch.py", *GRID, "steps=20", *SLURM, UNBOUND, f"output_dir={tmp_path / 'out'}"]
    quoted = " ".join(shlex.quote(part) for part in command)
    script, printed = tmp_path / "inside.sh", tmp_path / "inside.log"
    path = f"PATH={Path(sys.executable).parent}:$PATH"
    script.write_text(f"#!/bin/sh\ncd {ROOT}\n{path} srun --cpu-bind=cores {quoted}\n")
    cluster.run("sbatch", "--wait", "-c", "1", "-o", str(printed), str(script))
    assert "4 points in 1 pack submitted as 1 job" in printed.read_text()
    wait(tmp_path / "out")
