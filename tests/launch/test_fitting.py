"""A point that needs more memory than there is is refused; a pack that turns out to need more is halved."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from tests.conftest import ROOT, make_dataset, make_point
from tests.helpers.cgroups import limited_to
from vae_sweeps.config.launchers import SlurmLauncher
from vae_sweeps.launch import fitting

CPU = torch.device("cpu")
DATASET = make_dataset((1, 28, 28))


def slurm(**settings: Any) -> SlurmLauncher:
    content = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "hydra" / "launcher" / "slurm.yaml"))
    assert isinstance(content, dict)
    keys = {str(name): value for name, value in content.items() if name in SlurmLauncher.__dataclass_fields__}
    return SlurmLauncher(**(keys | settings))


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (["arch.hidden=[9000000]"], "arch.hidden=[9000000]"),
        (["-m", "arch=mlp,conv", "latent=90000000"], "latent=90000000"),
    ],
)
def test_a_network_that_cannot_fit_is_refused_with_its_estimate(refused, command: list[str], key: str) -> None:
    line = refused(*command)
    assert line.startswith(f"{key}: one such point needs about ")
    assert " GB for weights, gradients, moments and checkpoints, but " in line
    assert line.endswith(f"; use a smaller {key.partition('=')[0]}, or more memory")


def check(*overrides: str, cluster: SlurmLauncher | None, devices: int = 1) -> None:
    fitting.check([make_point(*overrides)], [DATASET], CPU, devices, cluster)


def test_the_memory_of_a_job_counts_where_it_is_known() -> None:
    large = "arch.hidden=[100000]"  # 160 million weights: 5.1 GB
    check(large, cluster=slurm(mem_gb=6))
    check(large, cluster=slurm(mem_gb=1, resources={"mlp": {"mem_gb": 6}}))
    check(large, cluster=slurm(mem_gb=None))
    check(large, cluster=slurm(mem_gb=1, gpus_per_node=1))
    with pytest.raises(ValueError, match=r"^arch.hidden=\[100000\]: .* but hydra.launcher.mem_gb=4 gives a job 4.3 GB"):
        check(large, cluster=slurm(mem_gb=4))
    with pytest.raises(ValueError, match=r"but hydra.launcher.resources.mlp.mem_gb=4 gives a job"):
        check(large, cluster=slurm(mem_gb=40, resources={"mlp": {"mem_gb": 4}}))


def test_a_batch_is_no_larger_than_the_data() -> None:
    check("batch_size=1000000000", cluster=slurm(mem_gb=0.01))
    with pytest.raises(
        ValueError, match=r"^batch_size=70: one such point needs about .* layers' outputs .* use a smaller batch_size"
    ):
        check("arch=conv", "batch_size=70", cluster=slurm(mem_gb=0.006))


@pytest.mark.slow
def test_a_pack_that_exceeds_a_cgroup_is_halved_instead_of_killed(tmp_path) -> None:
    """Four points of 6.4 million weights each, of which one fits beside Python and its libraries, but not all."""
    command = [
        sys.executable, "launch.py", "-m", "seed=0,1,2,3", "max_pack=4", "arch.hidden=[4000]", "steps=2",
        "evaluation=none", "tracker=none", f"output_dir={tmp_path}",
    ]  # fmt: skip
    with limited_to(1_000_000_000) as inside:
        done = subprocess.run(inside(*command), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pack 1/1 (4 points) of 4 points failed (MemoryError: needs more than" in done.stdout
    assert len(list(tmp_path.glob("runs/*/result.json"))) == 4
