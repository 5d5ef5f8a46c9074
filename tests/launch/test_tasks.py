"""The settings of jobs whose packs train in several tasks."""

from dataclasses import replace

import pytest

from tests.conftest import ROOT
from vae_sweeps.config.launchers import SlurmLauncher
from vae_sweeps.launch.tasks import spread, times
from vae_sweeps.system import yaml_files


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("gpu:a100:1", "gpu:a100:4"),
        ("gpu:2", "gpu:8"),
        ("gpu:a100", "gpu:a100:4"),
        ("gpu", "gpu:4"),
        ("gres/gpu:h100:2", "gres/gpu:h100:8"),
        ("gpu:a100:1,lscratch:50", "gpu:a100:4,lscratch:50"),
        ("bandwidth:lustre:4, gpu:1, gpu:v100:2", "bandwidth:lustre:4,gpu:4,gpu:v100:8"),
        ("gpuless:1", "gpuless:1"),
    ],
)
def test_only_gpus_are_multiplied(gres: str, expected: str) -> None:
    assert times(gres, 4) == expected


def settings(**changes: object) -> SlurmLauncher:
    """The defaults of conf/hydra/launcher/slurm.yaml, changed."""
    content = yaml_files.load((ROOT / "conf" / "hydra" / "launcher" / "slurm.yaml").read_text())
    del content["defaults"]
    return replace(SlurmLauncher(**content), **changes)


def test_what_is_given_for_a_task_is_multiplied_by_the_tasks_of_a_node() -> None:
    given = settings(gpus_per_node=1, mem_gb=16, nodes=2, gres="gpu:a100:1,lscratch:50", srun_args=["--mpi=none"])
    found = spread(given, 8)
    assert (found.gpus_per_node, found.mem_gb, found.gres) == (4, 64, "gpu:a100:4,lscratch:50")
    assert found.srun_args == ["--mpi=none", "--kill-on-bad-exit=1"]
    absent = spread(settings(gpus_per_node=None, mem_gb=None), 8)
    assert (absent.gpus_per_node, absent.mem_gb, absent.gres) == (None, None, None)
    one = replace(given, nodes=1)
    assert spread(one, 1) == one


@pytest.mark.parametrize(("nodes", "devices"), [(2, 1), (3, 4), (4, 2)])
def test_tasks_that_cannot_be_spread_evenly_are_refused(nodes: int, devices: int) -> None:
    with pytest.raises(ValueError, match=f"^hydra.launcher.nodes={nodes}: must divide devices={devices}, since"):
        spread(settings(nodes=nodes), devices)
