"""Small sweeps on a real SLURM: their commands, what they wrote, and how to wait for it."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import vae_sweeps
from tests.conftest import vs
from tests.helpers import slurm_cluster
from tests.helpers.slurm_cluster import Cluster
from vae_sweeps.runs.run_folder import RunFolder, runs_folder

_WHY_NOT = slurm_cluster.why_not()
NEEDS_SLURM = [pytest.mark.slow, pytest.mark.skipif(_WHY_NOT is not None, reason=str(_WHY_NOT))]

SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]
SMALL = ["arch.hidden=[16]", "evaluation=none", "log_every_steps=50", "checkpoint_every_s=0.5"]
GRID = ["-m", "beta=0.1,1", "latent=2,5", "sweep=grid", *SMALL]
LONG = [*GRID, "arch.hidden=[32]", "batch_size=32", "steps=2000"]


@contextlib.contextmanager
def running_cluster(**settings: Any) -> Iterator[Cluster]:
    """A SLURM, with the settings of `Cluster`, that the commands of this process and its children use."""
    with (
        tempfile.TemporaryDirectory(prefix="vs-") as folder,
        Cluster(Path(folder), **settings) as up,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SLURM_CONF", str(up.conf))
        yield up


def wait_for(condition: Callable[[], object], timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.1)


def wait(output_dir: Path) -> None:
    ended = vs("wait", "grid", "--output-dir", output_dir)
    assert ended.returncode == 0, f"{ended.stdout} {logs(output_dir)}"


def logs(output_dir: Path) -> str:
    paths = (output_dir / "sweeps" / "grid" / "jobs").glob("*.out")
    return "\n".join(path.read_text()[-3000:] for path in paths)


def table(output_dir: Path, *, ends: Sequence[str] = ("done",)) -> pd.DataFrame:
    """The numbers of the sweep, whose points have all ended in one of these ways."""
    full = vae_sweeps.results(output_dir / "sweeps" / "grid")
    assert set(full["status"]) == set(ends)
    numbers = [name for name in full if name.startswith(("train/", "val/", "test/"))]
    return pd.DataFrame(full.set_index("run_id")[numbers]).sort_index()


def steps_of(output_dir: Path) -> list[list[int]]:
    return [[row["step"] for row in RunFolder(run).read_rows()] for run in runs_folder(output_dir).iterdir()]


def has_checkpoints(output_dir: Path) -> bool:
    folders = list(runs_folder(output_dir).glob("*"))
    return len(folders) == 4 and all((folder / "checkpoint.pt").exists() for folder in folders)


def status(output_dir: Path) -> str:
    return vs("status", "grid", "--output-dir", output_dir).stdout


def of_launcher(argument: str) -> str:
    """The full override: hydra.launcher.partition=low for partition=low, +hydra.launcher.x=1 for +x=1."""
    return "+" * argument.startswith("+") + "hydra.launcher." + argument.removeprefix("+")
