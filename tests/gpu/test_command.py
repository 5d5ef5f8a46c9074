"""A whole command on a device: trained as graphs, with pictures, a full evaluation, the table and the report."""

from pathlib import Path

import pytest
import torch

import vae_sweeps
from tests.conftest import launch_here
from tests.helpers import stand_in_device
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.system import machine
from vae_sweeps.training import graphs, loop
from vae_sweeps.training.steps import Steps

COMMAND = ["-m", "beta=0,1", "latent=2,5", "epochs=2", "pictures_every_epochs=1", "tracker=none", "sweep=grid"]
COMMAND += ["evaluation=full", "evaluation/features=random", "evaluation.iwae_samples=25", "evaluation.neighbours=50"]


def graphed(pack, dataset, schedule, asked: str) -> Steps:
    assert graphs.why_not(pack) == ""
    return graphs.GraphedSteps(pack, dataset, schedule, stand_in_device.captured)


@pytest.mark.slow
def test_every_part_of_a_command_runs_on_the_device(
    device: torch.device, is_gpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert launch_here(*COMMAND, "device=cpu", f"output_dir={tmp_path / 'cpu'}") == 0
    monkeypatch.setattr(machine, "resolve_device", lambda name: device)
    if not is_gpu:
        monkeypatch.setattr(loop, "new_steps", graphed)
    assert launch_here(*COMMAND, f"output_dir={tmp_path / 'device'}") == 0
    on_cpu, on_device = (vae_sweeps.results(tmp_path / name / "sweeps" / "grid") for name in ("cpu", "device"))
    assert set(on_device["status"]) == {"done"}
    whole = [set(table.columns[table.notna().all()]) for table in (on_cpu, on_device)]
    assert whole[0] - {"core_s"} == whole[1] - {"gpu_s"}
    assert all(seconds > 0 for seconds in on_device["gpu_s"])
    # Other noise in training, which stops after two epochs.
    assert on_device["test/elbo"].to_numpy() == pytest.approx(on_cpu["test/elbo"].to_numpy(), rel=0.1)
    for run, other in zip(all_runs(tmp_path / "cpu"), all_runs(tmp_path / "device"), strict=True):
        assert not (other.read_result() or {})["missing"]
        pictures = [{path.name for path in folder.pictures.iterdir()} for folder in (run, other)]
        assert pictures[0] == pictures[1]
