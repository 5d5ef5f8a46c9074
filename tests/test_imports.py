"""What each command imports: libraries that take a tenth of a second or more are imported only where they are used."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, make_options, make_point
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import lease

# Libraries that this project uses, and the largest that these import: PyTorch's compiler, sympy and scipy.
HEAVY = {"torch", "torch._dynamo", "torch._inductor", "sympy", "numpy", "pandas", "pyarrow", "sklearn", "scipy"}
HEAVY |= {"matplotlib", "torchmetrics", "wandb", "tensorboard", "submitit", "hydra", "jinja2", "plotly", "mlxtend"}
FOR_TABLES = {"numpy", "pandas", "pyarrow"}

VAE_SWEEPS = str(Path(sys.executable).parent / "vae-sweeps")
LAUNCH = str(ROOT / "launch.py")


def imported(*command: str, code: int = 0) -> set[str]:
    """The heavy libraries that `python COMMAND` imports; it must end with the exit code `code`."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert any(name.startswith("vae_sweeps.") for name in names)
    return {heavy for heavy in HEAVY if any(name == heavy or name.startswith(f"{heavy}.") for name in names)}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a sweep with points in several states."""
    sweep = SweepFolder.under(tmp_path_factory.mktemp("outputs"), "grid")
    sweep.add(["run-done", "run-failed", "run-preempted", "run-running"], ["seed"])
    done, failed, preempted, running = sweep.runs()
    for seed, run in enumerate(sweep.runs()):
        run.create(make_point(f"seed={seed}"), make_options(), [])
    done.write_result({"status": "done", "step": 7, "metrics": {"val/elbo": -90.0}})
    failed.write_failure("ValueError: this is why\n")
    preempted.checkpoint.touch()
    assert lease.take(running.path)
    return sweep.output_dir


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        (["--help"], set()),
        (["status", "grid"], set()),
        (["clean", "grid"], set()),
        (["results", "grid"], FOR_TABLES),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_imports_only_what_it_needs(outputs: Path, command: list[str], allowed: set[str]) -> None:
    folder = [] if command == ["--help"] else ["--output-dir", str(outputs)]
    assert imported(VAE_SWEEPS, *command, *folder) <= allowed


def test_light_modules_import_nothing_heavy() -> None:
    modules = ["vae_sweeps", "vae_sweeps.models", "vae_sweeps.launch.job", "vae_sweeps.runs.catalogue"]
    assert imported("-c", f"import {', '.join(modules)}") == set()


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        ([LAUNCH, "beta=-1"], {"hydra"}),
        ([LAUNCH, "-m", "beta=0.1,-1"], {"hydra"}),
        ([VAE_SWEEPS, "retry", "nosuch"], set()),
    ],
    ids=lambda value: " ".join(Path(word).name for word in value) if isinstance(value, list) else "",
)
def test_a_mistake_is_answered_before_anything_heavy_is_imported(command: list[str], allowed: set[str]) -> None:
    assert imported(*command, code=2) == allowed


@pytest.mark.slow
def test_a_launch_imports_only_what_it_needs(tmp_path: Path) -> None:
    """One that trains, one that has nothing to do, and one whose data have changed since."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8))
    point = ["data=numpy", f"data.path={tmp_path / 'x.npy'}", "arch.hidden=[3]", "steps=2", "batch_size=8"]
    options = ["evaluation=none", "tracker=none", f"output_dir={tmp_path / 'outputs'}"]
    command = [LAUNCH, "-m", "beta=1", *point, *options]
    for_nothing, for_curves_and_report = {"hydra", *FOR_TABLES}, {"matplotlib", "jinja2", "plotly"}
    for_training = for_nothing | {"torch", "submitit"} | for_curves_and_report
    trains = imported(*command)
    assert trains <= for_training
    assert trains >= {"torch", "matplotlib"}
    assert imported(*command) <= for_nothing
    np.save(tmp_path / "x.npy", np.zeros((40, 8, 8), np.uint8))
    assert imported(*command) >= {"torch", "matplotlib"}
    assert len(list((tmp_path / "outputs" / "runs").iterdir())) == 2
