"""The CPUs that a process may use: the least of its affinity, its SLURM task, and the quotas of its cgroups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.helpers.cgroups import limited_to_cpus
from vae_sweeps.system import cpus, machine


@pytest.fixture
def _many_cpus(monkeypatch) -> None:
    """A process that may use eight CPUs, outside of SLURM and of cgroups; tests take some of that away."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(cpus.cgroups, "folders", lambda controller: [])
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)


@pytest.mark.usefixtures("_many_cpus")
def test_the_least_of_affinity_and_the_slurm_task_counts(monkeypatch) -> None:
    assert cpus.usable() == 8
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert cpus.usable() == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5})
    assert cpus.usable() == 1


@pytest.mark.usefixtures("_many_cpus")
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),  # two threads take turns, one would leave a half unused
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.cfs_quota_us": "400000\n", "cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, 8),
        ({}, 8),
    ],
)
def test_a_quota_counts_of_whichever_cgroup_has_the_least(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "cpu.max").write_text("max 100000\n")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cpus.cgroups, "folders", lambda controller: [inner, tmp_path])
    assert cpus.usable() == expected


def test_the_quota_of_a_real_cgroup_counts() -> None:
    code = "from vae_sweeps.system import cpus; print(cpus.usable())"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    with limited_to_cpus(1) as inside:
        command = inside(sys.executable, "-c", code)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.usefixtures("_many_cpus")
def test_a_process_takes_no_more_threads_than_cpus(monkeypatch) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        machine.prepare()
        assert torch.get_num_threads() == 4
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
        machine.prepare()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
