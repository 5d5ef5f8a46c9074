"""A killed run ends as if it had not been killed."""

import signal
from pathlib import Path

import pytest
import torch

from tests.conftest import Door, launch, launch_here, start_launch, wait_until
from tests.helpers.checkpoints import tensors_of
from vae_sweeps.runs import checkpoint, states
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.run_folder import RunFolder

GRID = ["-m", "beta=0.01,1", "latent=2,5", "seed=3", "log_every_steps=30", "checkpoint_every_s=0.1"]
GRID += ["evaluation=none"]
MLP = [*GRID, "arch.hidden=[20]", "batch_size=32", "steps=1000"]
# For what is not to be killed: a checkpoint takes longer than twenty of these steps.
TO_THE_END = "checkpoint_every_s=1e9"
# Two packs, one after the other: the first is done, and has its previous checkpoint, while the second trains.
CONV = [*GRID, "arch=conv", "arch.channels=[4,8]", "arch.batch_norm=true", "steps=300"]
CONV += ["keep_previous_checkpoint=always"]


def runs_of(output_dir: Path) -> dict[str, RunFolder]:
    return {run.name: run for run in all_runs(output_dir)}


def saved_steps(output_dir: Path) -> list[int]:
    """The newest rows' steps of the runs that have a checkpoint and one before it."""
    runs = [run for run in all_runs(output_dir) if run.previous_checkpoint.exists()]
    return [rows[-1]["step"] for run in runs if (rows := run.read_rows())]


def timeless(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in ("time_s", "core_s", "images_per_s")} for row in rows]


def assert_same_runs(one: Path, other: Path) -> None:
    """Same weights, moments and rows, to the bit."""
    ones, others = runs_of(one), runs_of(other)
    assert ones.keys() == others.keys()
    for name, folder in ones.items():
        a, b = checkpoint.available(folder)[0], checkpoint.available(others[name])[0]
        assert a.step == b.step
        tensors, expected = tensors_of(a), tensors_of(b)
        assert all(torch.equal(tensors[key], expected[key]) for key in expected), name
        assert timeless(folder.read_rows()) == timeless(others[name].read_rows())
        result, expected_result = folder.read_result(), others[name].read_result()
        assert result is not None
        assert expected_result is not None
        assert result["metrics"] == expected_result["metrics"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    output_dir = tmp_path_factory.mktemp("undisturbed")
    assert launch_here(*MLP, TO_THE_END, f"output_dir={output_dir}") == 0
    return output_dir


@pytest.mark.slow
def test_resumed_equals_uninterrupted_after_kill_9_and_ctrl_c(undisturbed, tmp_path, door: Door) -> None:
    """Killed, then taken up and interrupted, then taken up to the end: the third process inherits from both."""
    out = tmp_path / "out"
    arguments = [*MLP, f"output_dir={out}"]
    process = start_launch(*arguments)
    wait_until(lambda: len(s := saved_steps(out)) == 4 and min(s) > 100, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed_at = max(saved_steps(out))

    process = start_launch(*arguments)
    wait_until(lambda: len(s := saved_steps(out)) == 4 and min(s) > killed_at + 100, process)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "resumes after step" in told
    assert "the same command resumes" in told
    assert {states.status(run, run.read_result()) for run in all_runs(out)} == {"interrupted"}

    finished = door(*arguments, TO_THE_END)
    assert finished.code == 0, finished.err
    assert "resumes after step" in finished.out
    assert_same_runs(out, undisturbed)


@pytest.mark.slow
def test_truncated_checkpoint_is_named_and_the_previous_one_used(undisturbed, tmp_path) -> None:
    process = start_launch(*MLP, f"output_dir={tmp_path}")
    wait_until(lambda: len(saved_steps(tmp_path)) == 4, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    damaged = all_runs(tmp_path)[0].checkpoint
    damaged.write_bytes(damaged.read_bytes()[:1000])
    finished = launch(*MLP, f"output_dir={tmp_path}")
    assert finished.returncode == 0
    assert f"{damaged}: damaged checkpoint" in finished.stdout
    assert "resumes after step" in finished.stdout
    assert_same_runs(tmp_path, undisturbed)


@pytest.mark.slow
def test_resumed_conv_with_batch_norm_equals_uninterrupted(tmp_path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = start_launch(*CONV, f"output_dir={killed}")
    wait_until(lambda: sum(s > 100 for s in saved_steps(killed)) == 4, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for output_dir in (killed, whole):
        assert launch(*CONV, f"output_dir={output_dir}").returncode == 0
    assert_same_runs(killed, whole)
