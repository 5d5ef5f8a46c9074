"""Halving: the worse points stop at rungs, and the others go on as if nothing had happened."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import vae_sweeps
from tests.conftest import Door, ended_command, launch_here, start_launch, wait_until
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder

# In double precision the numbers of a point do not depend on its pack, but for the last digits.
POINTS = ["-m", "beta=0.1,1,3", "latent=2,5", "arch.hidden=[8]", "epochs=4", "precision=fp64", "sweep=grid"]
QUIET = ["evaluation=none", "tracker=none"]
GRID = [*POINTS, *QUIET]
HALVING = "hydra.sweeper.halving={min_epochs: 1, reduction_factor: 2}"
TOLERANCE = 1e-9


def statuses(out: Path) -> list[str]:
    return vae_sweeps.results(out / "sweeps" / "grid")["status"].tolist()


def status_of(run: RunFolder) -> str:
    return str((run.read_result() or {}).get("status"))


def rows(run: RunFolder) -> list[dict[str, Any]]:
    """The rows of a run, without what depends on the time."""
    costs = ("time_s", "core_s", "gpu_s", "images_per_s")
    return [{name: value for name, value in row.items() if name not in costs} for row in run.read_rows()]


def assert_close(halved: RunFolder, full: RunFolder) -> None:
    """The numbers of a run equal those of the same run without halving, as far as it has them."""
    found, expected = rows(halved), rows(full)
    assert found
    for row, other in zip(found, expected, strict=False):
        assert row.keys() == other.keys()
        for name, value in row.items():
            assert value == pytest.approx(other[name], rel=TOLERANCE), name


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same grid without halving."""
    out = tmp_path_factory.mktemp("full")
    assert launch_here(*GRID, f"output_dir={out}") == 0
    return out


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("halved")
    assert launch_here(*GRID, HALVING, f"output_dir={out}") == 0
    return out


@pytest.mark.slow
def test_the_best_are_trained_to_the_end_and_all_numbers_are_those_of_the_full_grid(full: Path, halved: Path) -> None:
    table, there = (vae_sweeps.results(out / "sweeps" / "grid") for out in (halved, full))
    assert table["status"].value_counts().to_dict() == {"stopped": 5, "done": 1}
    for name in table["run"]:
        assert_close(RunFolder.under(halved, name), RunFolder.under(full, name))
    best = table["status"] == "done"
    numbers = [name for name in table if name.split("/")[0] in ("train", "val", "test")]
    pd.testing.assert_frame_equal(table.loc[best, numbers], there.loc[best, numbers], rtol=TOLERANCE)


@pytest.mark.slow
def test_each_rung_keeps_the_best_by_their_rows(full: Path, halved: Path) -> None:
    rungs = SweepFolder.under(halved, "grid").all_rungs()
    assert [(rung["epochs"], len(rung["values"]), len(rung["kept"])) for rung in rungs] == [(1, 6, 3), (2, 3, 1)]
    for rung in rungs:
        for name, value in rung["values"].items():
            there = RunFolder.under(full, name).read_rows()
            (row,) = (row for row in there if row["epoch"] == rung["epochs"])
            assert value == pytest.approx(row["val/elbo"], rel=TOLERANCE)
        ranked = sorted(rung["values"], key=lambda name: -rung["values"][name])
        assert ranked[: len(rung["kept"])] == rung["kept"]


@pytest.mark.slow
def test_a_stopped_run_has_its_numbers_a_model_and_pictures(halved: Path) -> None:
    rungs = SweepFolder.under(halved, "grid").all_rungs()
    name = next(name for name in rungs[1]["values"] if name not in rungs[1]["kept"])
    run = RunFolder.under(halved, name)
    result = run.read_result()
    assert result is not None
    steps_per_epoch = int(run.read_rows()[-1]["step"] / run.read_rows()[-1]["epoch"])
    assert (result["status"], result["step"]) == ("stopped", 2 * steps_per_epoch)
    model = vae_sweeps.load(run.path)
    assert result["metrics"]["test/elbo"] == pytest.approx(model.elbo(model.images("test")).mean().item(), rel=0.05)
    assert "samples" in run.pictures_at(None)


@pytest.mark.slow
def test_the_same_command_again_trains_nothing(door: Door, halved: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (halved / "runs").rglob("*") if path.is_file()}
    again = door(*GRID, HALVING, f"output_dir={halved}")
    assert again.code == 0
    assert "6 of 6 points already done" in again.out
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_a_stopped_run_can_be_taken_to_its_end(door: Door, full: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert door(*GRID, HALVING, f"output_dir={out}").code == 0
    name = next(run.name for run in SweepFolder.under(out, "grid").runs() if status_of(run) == "stopped")
    ended = ended_command(capsys, "resume", name, "--output-dir", out)
    assert (ended.code, ended.err) == (0, "")
    assert status_of(RunFolder.under(out, name)) == "done"
    assert_close(RunFolder.under(out, name), RunFolder.under(full, name))
    # The command without halving takes all others to their end.
    assert door(*GRID, f"output_dir={out}").code == 0
    assert statuses(out) == ["done"] * 6
    for run in SweepFolder.under(out, "grid").runs():
        assert_close(run, RunFolder.under(full, run.name))


@pytest.mark.slow
def test_diverged_and_failed_points_never_go_on(door: Door, tmp_path: Path) -> None:
    out = tmp_path / "out"
    grid = ["-m", "beta=1e38,1,3", "arch.hidden=[8]", "epochs=3", "sweep=grid", *QUIET]
    assert door(*grid, HALVING, f"output_dir={out}").code == 1
    assert statuses(out) == ["diverged", "done", "stopped"]


@pytest.mark.slow
def test_brackets_and_packs_of_one(door: Door, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = door(*GRID, HALVING, "hydra.sweeper.halving.brackets=2", "max_pack=1", f"output_dir={out}")
    assert ended.code == 0
    assert sorted(statuses(out)) == ["done"] * 2 + ["stopped"] * 4


def test_a_dry_run_shows_the_rungs(door: Door, tmp_path: Path) -> None:
    ended = door(*GRID, HALVING, "dry_run=true", f"output_dir={tmp_path / 'out'}")
    assert "halving: 6 points for 1 epoch, 3 for 2, and 1 to the end" in ended.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["hydra.sweeper.halving.min_epochs=4"], "leaves no rung before the end, after 4 epochs; must be less"),
        ([HALVING, "hydra.sweeper.halving.brackets=3"], "no rung in the last of 3 brackets"),
        (["hydra.sweeper.halving.min_epochs=0"], "must be a whole number >= 1, or null"),
        ([HALVING, "hydra.sweeper.halving.metric=fid"], "must be one of train/elbo, train/log_px, val/elbo"),
        ([HALVING, "hydra.sweeper.halving.reduction_factor=1"], "must be a whole number >= 2"),
        (["hydra.sweeper.halving={min_epoch: 1}"], "no such key; did you mean hydra.sweeper.halving.min_epochs?"),
        ([HALVING, "epochs=4,6"], "must train for equally many epochs; they have 4, 6"),
        ([HALVING, "hydra/launcher=slurm"], "hydra.launcher.elastic=true"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(refused, arguments: list[str], line: str) -> None:
    assert line in refused(*GRID, *arguments)


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [0.5, 1.5, 2.5])
def test_a_killed_search_goes_on_with_the_same_winners(
    full: Path, halved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], epoch: float
) -> None:
    """Kill it in each rung, without a warning; the same command ends with the same points and numbers."""
    out = tmp_path / "out"
    command = [*GRID, HALVING, "checkpoint_every_s=0.05", "log_every_steps=1", f"output_dir={out}"]

    def has_reached() -> bool:
        found = [run.read_rows() for run in SweepFolder.under(out, "grid").runs()]
        return any(of_run and of_run[-1]["epoch"] > epoch for of_run in found)

    process = start_launch(*command)
    wait_until(has_reached, process)
    process.kill()
    process.wait()
    if epoch < 1:  # `retry` knows the halving from the sweep's folder, and leaves nothing to the launch
        assert ended_command(capsys, "retry", "grid", "--output-dir", out).code == 0
        assert statuses(out) == statuses(halved)
    assert start_launch(*command).wait(120) == 0
    kept = [[rung["kept"] for rung in SweepFolder.under(of, "grid").all_rungs()] for of in (out, halved)]
    assert kept[0] == kept[1]
    assert statuses(out) == statuses(halved)
    for run in SweepFolder.under(out, "grid").runs():
        steps = [row["step"] for row in run.read_rows()]
        assert steps == sorted(set(steps))
        ours, theirs = ({row["step"]: row for row in rows(one)} for one in (run, RunFolder.under(full, run.name)))
        shared = ours.keys() & theirs.keys()
        assert shared
        assert all(
            ours[step]["val/elbo"] == pytest.approx(theirs[step]["val/elbo"], rel=TOLERANCE)
            for step in shared
            if "val/elbo" in theirs[step]
        )
