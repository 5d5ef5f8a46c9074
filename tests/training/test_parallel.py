"""Several processes train one pack: they give the results of one process, and all end if one of them dies."""

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.conftest import launch, launch_here, start_launch, wait_until
from tests.helpers.checkpoints import tensors_of
from vae_sweeps.models.layers import BatchNorm2d
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.checkpoint import Checkpoint
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.system import distributed

# 3,500 images in batches of 48: the last of an epoch has 44.
POINTS = ["-m", "beta=0.1,1", "arch=conv", "arch.channels=[4,8]", "arch.batch_norm=true", "batch_size=48"]
QUICK = [*POINTS, "precision=fp64", "optim.clip_norm=1", "evaluation=none", "tracker=none", "sweep=grid"]


def states(output_dir: Path) -> Iterator[Checkpoint]:
    for run in all_runs(output_dir):
        yield checkpoint.available(run)[0]


def assert_equal(one: Path, other: Path, tolerance: float) -> None:
    """Both folders have the same runs, whose weights, Adam moments and rows agree to the relative `tolerance`."""
    for a, b in zip(states(one), states(other), strict=True):
        assert a.step == b.step
        for name, tensor in tensors_of(a).items():
            torch.testing.assert_close(tensors_of(b)[name], tensor, rtol=tolerance, atol=tolerance)
    for run, other_run in zip(all_runs(one), all_runs(other), strict=True):
        rows, others = run.read_rows(), other_run.read_rows()
        assert [row["step"] for row in rows] == [row["step"] for row in others]
        for row, again in zip(rows, others, strict=True):
            for name in ("train/elbo", "train/kl", "train/loss"):
                assert again[name] == pytest.approx(row[name], rel=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(["steps=80"], id="batch norm over the whole batch"),
        pytest.param(
            ["steps=20", "towers=4", "likelihood=gaussian", "likelihood.sigma=optimal"],
            id="batch norm by towers, optimal sigma",
        ),
    ],
)
def test_two_processes_give_the_results_of_one(overrides: list[str], tmp_path: Path) -> None:
    assert launch_here(*QUICK, *overrides, f"output_dir={tmp_path / 'one'}") == 0
    done = launch(*QUICK, *overrides, "devices=2", f"output_dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    assert "2 points to train in 1 pack on 2 of cpu" in done.stdout
    assert_equal(tmp_path / "one", tmp_path / "two", 1e-9)


@pytest.mark.slow
def test_a_run_resumes_with_another_number_of_processes(tmp_path: Path) -> None:
    whole = launch(*QUICK, "steps=150", "devices=2", f"output_dir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    parts = tmp_path / "parts"
    for devices in (2, 1):
        step_before = max((state.step for state in states(parts)), default=0)
        command = [*QUICK, "steps=150", f"devices={devices}", "checkpoint_every_s=0.2"]
        process = start_launch(*command, f"output_dir={parts}")
        wait_until(lambda before=step_before: has_passed(parts, before), process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=180)
        assert process.returncode == 130, out + err
    last = launch(*QUICK, "steps=150", "devices=2", f"output_dir={parts}")
    assert last.returncode == 0, last.stderr
    assert_equal(tmp_path / "whole", tmp_path / "parts", 1e-6)  # rounding grows over 150 steps


def has_passed(output_dir: Path, step: int) -> bool:
    found = [checkpoint.available(run) for run in all_runs(output_dir)]
    return len(found) == 2 and all(f and f[0].step > step for f in found)


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_others(tmp_path: Path) -> None:
    arguments = [*QUICK, "steps=100000", "devices=2", "checkpoint_every_s=0.5", f"output_dir={tmp_path}"]
    process = start_launch(*arguments)
    wait_until(lambda: has_passed(tmp_path, 0), process)
    os.kill(ranks_under(process.pid)[1], signal.SIGKILL)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "rank 0 of 2" in out + err
    assert "Traceback" in out + err
    for run in all_runs(tmp_path):
        assert "rank 0 of 2" in (run.read_failure() or "")
        assert not list(run.path.glob(".claim*"))
    assert {state.step > 0 for state in states(tmp_path)} == {True}


def ranks_under(parent: int) -> list[int]:
    """The processes, by rank, of the job that a launch has started."""
    found: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            own = dict(entry.split(b"=", 1) for entry in environment if b"=" in entry)
            if b"submitit.core._submit" in command and b"SUBMITIT_LOCAL_GLOBALID" in own and is_under(folder, parent):
                found[int(own[b"SUBMITIT_LOCAL_GLOBALID"])] = int(folder.name)
    return [found[rank] for rank in sorted(found)]


def is_under(folder: Path, ancestor: int) -> bool:
    pid = int(folder.name)
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def test_shares_cover_the_batch_evenly() -> None:
    for num_images, parts in itertools.product((0, 1, 2, 7, 8, 64), (1, 2, 3, 8)):
        cuts = distributed._cut(num_images, parts)
        sizes = [end - begin for begin, end in itertools.pairwise(cuts)]
        assert (cuts[0], cuts[-1]) == (0, num_images)
        assert max(sizes) - min(sizes) <= 1


def test_towers_are_normalised_separately() -> None:
    x = torch.randn(7, 2 * 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    norm, alone = (BatchNorm2d(2, 3).double() for _ in range(2))
    norm.towers = 3
    found = norm(x)
    parts = [x[:2], x[2:4], x[4:]]
    torch.testing.assert_close(found, torch.cat([alone(part) for part in parts]))
    mean = torch.stack([part.mean((0, 2, 3)) for part in parts]).mean(0)
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["devices=3", "batch_size=2"], "error: devices=3: must be at most batch_size=2, since each takes a share"),
        (["devices=2", "towers=3"], "error: towers=3: must be 1, or a multiple of devices=2"),
        (["devices=2", "device=cuda:0"], "error: device=cuda:0: must be auto, cpu or cuda with devices=2"),
        (["devices=0"], "error: devices=0: must be a whole number >= 1"),
        (["-m", "devices=1,2"], "error: devices: must be one value; it applies to the whole sweep"),
    ],
)
def test_mistakes_are_reported(door, arguments: list[str], line: str) -> None:
    ended = door(*arguments, "evaluation=none", "tracker=none", "output_dir=out")
    assert ended.code == 2
    assert ended.err.startswith(line)


def test_tf32_needs_an_nvidia_gpu(door) -> None:
    ended = door("precision=tf32", "device=cpu")
    assert (ended.code, ended.err[:60]) == (2, "error: precision=tf32: needs an NVIDIA GPU, but the device i")


@pytest.mark.slow
def test_bf16_reaches_nearly_the_elbo_of_fp32(tmp_path: Path) -> None:
    rows = {}
    for precision in ("fp32", "bf16"):
        out = tmp_path / precision
        arguments = ["steps=300", "evaluation=none", "tracker=none", f"precision={precision}", f"output_dir={out}"]
        assert launch_here(*arguments) == 0
        (run,) = all_runs(out)
        rows[precision] = run.read_rows()
    last = {name: found[-1]["val/elbo"] for name, found in rows.items()}
    first = rows["fp32"][0]["val/elbo"] if "val/elbo" in rows["fp32"][0] else rows["fp32"][0]["train/elbo"]
    assert abs(last["bf16"] - last["fp32"]) < 0.05 * abs(last["fp32"] - first) + 1
    assert last["bf16"] != last["fp32"]
