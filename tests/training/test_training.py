"""What training writes: rows and checkpoints; and the step that is tried first."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
import torch

from tests.conftest import make_point
from tests.helpers.small_jobs import (
    CONV_BN,
    DATASET,
    EVALUATION,
    SMALL,
    STEPS_PER_EPOCH,
    assert_same,
    stop_after,
    train_pack,
)
from tests.helpers.training import CPU, runs_of
from vae_sweeps.launch.draw import PictureDrawer
from vae_sweeps.launch.observe import JobObserver
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import memory
from vae_sweeps.tracker.link import Link
from vae_sweeps.training import objective
from vae_sweeps.training.loop import TrainOptions, train
from vae_sweeps.training.pack import Pack, new_start

pytestmark = pytest.mark.usefixtures("no_curves")


class SavedLink(Link):
    """A link without a tracker that calls `saved` whenever checkpoints have been written."""

    def __init__(self, saved: Callable[[int], None]) -> None:
        super().__init__()
        self._saved = saved

    def saved(self, folders: Iterable[RunFolder], step: int) -> None:
        self._saved(step)


def test_rows_of_a_density_have_no_bits_per_dim(in_folders) -> None:
    (folder,) = in_folders(1)
    train_pack([make_point(*SMALL, "epochs=1", "latent=3", "likelihood=gaussian")], [folder])
    (*_, last) = folder.read_rows()
    assert {"train/elbo", "val/elbo"} <= last.keys()
    assert not [name for name in last if name.endswith("bits_per_dim")]


def test_bits_per_dim_follow_from_the_elbo(in_folders) -> None:
    (folder,) = in_folders(1)
    train_pack([make_point(*SMALL, "epochs=2", "latent=3")], [folder])
    rows = folder.read_rows()
    assert [row["step"] for row in rows] == [3, 5, 6, 9, 10]
    for row in rows:
        splits = ("train", "val") if row["step"] % STEPS_PER_EPOCH == 0 else ("train",)
        for split in splits:
            expected = -row[f"{split}/elbo"] / (64 * math.log(2))
            assert row[f"{split}/bits_per_dim"] == pytest.approx(expected, rel=1e-12)
        assert ("val/bits_per_dim" in row) == ("val/kl_per_latent" in row) == ("val/elbo" in row) == ("val" in splits)


@pytest.mark.parametrize("convention", ["elbo", "pixel_mean", "mse"])
def test_beta_nats_of_a_row_is_that_of_its_last_step(convention, in_folders) -> None:
    """The warmup counts steps from 0, so the row of step n + 1 has n/8 of beta; each point has its own warmup."""
    common = [*SMALL, "log_every_steps=1", "steps=10", "likelihood=gaussian", "beta=0.3", f"objective={convention}"]
    points = [make_point(*common, f"objective.warmup_epochs={epochs}") for epochs in (0, 1.6, 0.4, 4)]
    folders = in_folders(4)
    train_pack(points, folders)
    full = objective.beta_nats(points[0], DATASET.image_shape)
    assert full is not None
    constant, slow, fast, unfinished = ([row["beta_nats"] for row in folder.read_rows()] for folder in folders)
    assert constant == [full] * 10
    assert slow == pytest.approx([full * min(1, step / 8) for step in range(10)], rel=1e-6)
    assert slow[4] == full / 2
    results = [folder.read_result() for folder in folders]
    assert [result["beta_nats"] for result in results if result] == [full, full, full, unfinished[-1]]
    assert unfinished[-1] == pytest.approx(full * 9 / 20, rel=1e-6)
    assert fast == [0, full / 2, *[full] * 8]


def test_beta_nats_of_a_row_explains_its_loss(in_folders) -> None:
    (folder,) = in_folders(1)
    point = make_point(*SMALL, "log_every_steps=1", "steps=10", "beta=0.7", "precision=fp64")
    train_pack([replace(point, objective=replace(point.objective, warmup_epochs=1.6))], [folder])
    for row in folder.read_rows():
        for split in {name.split("/")[0] for name in row if name.endswith("/loss")}:
            expected = -row[f"{split}/log_px"] + row["beta_nats"] * row[f"{split}/kl"]
            assert row[f"{split}/loss"] == pytest.approx(expected, rel=1e-9), (row["step"], split)


def test_each_point_has_its_own_kl_per_latent(in_folders) -> None:
    points = [make_point(*SMALL, "epochs=2", f"latent={latent}", "beta=0.1") for latent in (2, 5, 3)]
    folders = in_folders(3, "packed")
    train_pack(points, folders)
    for k, point in enumerate(points):
        (alone,) = in_folders(1, f"alone{k}-")
        train_pack([point], [alone])
        for row, row_alone in zip(folders[k].read_rows(), alone.read_rows(), strict=True):
            assert ("val/kl_per_latent" in row) == (row["step"] % STEPS_PER_EPOCH == 0)
            if "val/kl_per_latent" in row:
                nats = row["val/kl_per_latent"]
                assert len(nats) == point.latent
                assert sum(nats) == pytest.approx(row["val/kl"], abs=1e-4)
                assert all(value == round(value, 6) for value in nats)
                assert nats == pytest.approx(row_alone["val/kl_per_latent"], abs=1e-5)


def test_curves_can_be_drawn_from_rows_with_a_list(monkeypatch, in_folders) -> None:
    monkeypatch.undo()
    (folder,) = in_folders(1)
    train_pack([make_point(*SMALL, "epochs=2", "latent=3")], [folder])
    assert (folder.pictures / "curves.png").exists()


def test_saved_is_called_for_steps_at_which_all_living_points_have_checkpoints(in_folders) -> None:
    """Of three points the second diverges in its first step; its checkpoints are no longer written."""
    points = [make_point(*SMALL, "epochs=2", "latent=3", f"seed={seed}") for seed in range(3)]
    starts = [new_start(point, DATASET.image_shape) for point in points]
    next(iter(starts[1].model.values()))[:] = torch.nan
    folders, told = in_folders(3), []

    def saved(step: int) -> None:
        told.append(step)
        if step:
            assert [[c.step for c in checkpoint.available(folders[k])][:1] for k in (0, 2)] == [[step]] * 2
            assert all(row["step"] <= step for k in (0, 2) for row in folders[k].read_rows())

    outcomes = train_pack(points, folders, starts, checkpoint_every_s=0, link=SavedLink(saved))
    assert [outcome.status for outcome in outcomes] == ["done", "diverged", "done"]
    assert told == list(range(11))
    # The speed is that of the pack, which computed two epochs of 70 images for each of the three points.
    results = [folder.read_result() for folder in folders]
    assert [round(result["images_per_s"] * result["time_s"]) for result in results if result] == [140] * 3


def test_saved_is_called_for_the_step_that_training_resumes_from(in_folders) -> None:
    points, folders = [make_point(*SMALL, "epochs=2", f"seed={seed}") for seed in range(2)], in_folders(2)
    told: list[int] = []
    train_pack(points, folders, link=SavedLink(told.append), should_stop=stop_after(7))
    train_pack(points, folders, link=SavedLink(told.append))
    assert told == [0, 7, 7, 10]


@pytest.mark.parametrize("arch", [SMALL, CONV_BN], ids=["mlp", "conv_bn"])
def test_a_step_that_is_tried_first_does_not_change_the_results(arch, in_folders) -> None:
    common = [*arch, "epochs=2", "likelihood=gaussian", "likelihood.sigma=optimal"]
    points = [make_point(*common, f"latent={latent}") for latent in (2, 4)]
    plain, tried = (in_folders(2, name) for name in ("plain", "tried"))
    train_pack(points, plain)
    train_pack(points, tried, is_tried=True, should_stop=stop_after(7))
    train_pack(points, tried, is_tried=True)
    assert_same(tried, plain)


@pytest.mark.parametrize(("is_tried", "num_rows"), [(False, 3), (True, 0)])
def test_a_pack_whose_checkpoints_take_too_much_memory_fails_before_it_is_trained_if_tried(
    is_tried, num_rows, in_folders
) -> None:
    """Its weights take 107 MB. A step takes their gradients as well, a checkpoint three times as much."""
    point, folders = make_point("arch.hidden=[200000]", "batch_size=16", "log_every_steps=1", "steps=3"), in_folders(1)
    pack = Pack(runs_of([point], folders, DATASET), DATASET.image_shape, CPU)
    observer = JobObserver(pack, DATASET, EVALUATION, drawer=PictureDrawer(), link=Link(), show=lambda progress: None)
    with pytest.raises(MemoryError), memory.limited(300e6):
        train(pack, DATASET, TrainOptions(is_tried=is_tried), observer)
    assert len(folders[0].read_rows()) == num_rows
