"""What training writes: rows, checkpoints, and pictures, which do not change the results."""

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import make_dataset, make_options, make_point
from tests.helpers.training import CPU, runs_of
from vae_sweeps.analysis import pictures, run_plots, style
from vae_sweeps.config.schema import Point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.reference import Reference
from vae_sweeps.launch.draw import PictureDrawer
from vae_sweeps.launch.observe import JobObserver
from vae_sweeps.launch.packing import pack_key
from vae_sweeps.launch.record import record
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.checkpoint import Checkpoint
from vae_sweeps.runs.run import Run
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import memory
from vae_sweeps.tracker.link import Link
from vae_sweeps.training import objective
from vae_sweeps.training.loop import TrainOptions, train
from vae_sweeps.training.pack import Outcome, Pack, new_start

EVALUATION = make_options().evaluation
DATASET = make_dataset()  # 70 training images of 8x8
STEPS_PER_EPOCH = 5  # of 16 images
SMALL = ["arch.hidden=[9]", "batch_size=16", "log_every_steps=3"]
CONV_BN = ["arch=conv", "arch.channels=[4,6]", "arch.batch_norm=true", "arch.kernel=3", "batch_size=16"]
PICTURES = ["interpolations.png", "reconstructions.png", "samples.png", "traversal.png"]


def train_pack(
    points: Sequence[Point],
    folders: Sequence[RunFolder],
    starts: Sequence[Checkpoint] = (),
    *,
    drawer: PictureDrawer | None = None,
    link: Link | None = None,
    **options: Any,
) -> list[Outcome]:
    """Train, draw and record as a job does."""
    reference, drawer = Reference(DATASET, EVALUATION, None, CPU), drawer or PictureDrawer()
    pack = Pack(runs_of(points, folders, DATASET, starts), DATASET.image_shape, CPU)
    observer = JobObserver(pack, DATASET, EVALUATION, drawer=drawer, link=link or Link(), show=lambda progress: None)
    outcomes = train(pack, DATASET, TrainOptions(**options), observer)
    record(pack, outcomes, reference, drawer)
    return outcomes


class SavedLink(Link):
    """A link without a tracker that calls `saved` whenever checkpoints have been written."""

    def __init__(self, saved: Callable[[int], None]) -> None:
        super().__init__()
        self._saved = saved

    def saved(self, folders: Iterable[RunFolder], step: int) -> None:
        self._saved(step)


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch) -> None:
    """Do not draw curves: Matplotlib takes as long as everything else."""
    monkeypatch.setattr(run_plots, "learning_curves", lambda rows, title, is_log: None)
    monkeypatch.setattr(style, "save", lambda figure, path: None)


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
    points = [make_point(*common, f"objective.warmup_epochs={epochs}") for epochs in (0, 1.6, 0.4)]
    folders = in_folders(3)
    train_pack(points, folders)
    full = objective.beta_nats(points[0], DATASET.image_shape)
    constant, slow, fast = ([row["beta_nats"] for row in folder.read_rows()] for folder in folders)
    assert constant == [full] * 10
    assert slow == pytest.approx([full * min(1, step / 8) for step in range(10)], rel=1e-6)
    assert slow[4] == full / 2
    results = [folder.read_result() for folder in folders]
    assert [result["beta_nats"] for result in results if result] == [constant[-1], slow[-1], fast[-1]]
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


def stop_after(num_steps: int) -> Callable[[], bool]:
    """For `should_stop`: true at the end of step `num_steps`."""
    steps = iter(range(1, num_steps + 1))
    return lambda: next(steps) == num_steps


def timeless(folder: RunFolder) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows and the result, as they are written, without values that depend on the clock or the folder's name."""
    clock = {"time_s", "images_per_s", "finished_at", "evaluated", "rows", "run_id", "sha256"}
    rows = [{k: v for k, v in row.items() if k not in clock} for row in folder.read_rows()]
    return rows, {k: v for k, v in json.loads(folder.result.read_text()).items() if k not in clock}


def assert_same(folders: Sequence[RunFolder], others: Sequence[RunFolder]) -> None:
    for folder, other in zip(folders, others, strict=True):
        assert timeless(folder) == timeless(other)
        (a, *_), (b, *_) = checkpoint.available(folder), checkpoint.available(other)
        for part in ("model", "exp_avg", "exp_avg_sq"):
            assert all(torch.equal(tensor, getattr(b, part)[name]) for name, tensor in getattr(a, part).items()), part


def drawn(folder: RunFolder) -> dict[str, list[str]]:
    """Each folder of pictures with its files."""
    epochs = sorted(folder.pictures.glob("epoch-*"))
    return {epoch.name: sorted(file.name for file in epoch.iterdir()) for epoch in epochs}


@pytest.mark.parametrize("arch", [SMALL, CONV_BN], ids=["mlp", "conv_bn"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "optimal"])
def test_pictures_during_training_do_not_change_the_results(arch, likelihood, in_folders) -> None:
    """Nor do they if the run is stopped between them and resumed."""
    common = [*arch, "epochs=5", *([] if likelihood == "bernoulli" else ["likelihood=gaussian"])]
    common += [] if likelihood == "bernoulli" else ["likelihood.sigma=optimal"]
    without = [make_point(*common, f"latent={latent}", f"seed={latent}") for latent in (2, 4)]
    wanted = [replace(point, pictures_every_epochs=2) for point in without]
    plain, pictured, stopped = (in_folders(2, name) for name in ("plain", "pictured", "stopped"))
    before = torch.get_rng_state()
    train_pack(without, plain)
    train_pack(wanted, pictured)
    train_pack(wanted, stopped, should_stop=stop_after(13))
    train_pack(wanted, stopped)
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(pictured, plain)
    assert_same(stopped, plain)
    for k in range(2):
        assert drawn(plain[k]) == {}
        assert drawn(pictured[k]) == drawn(stopped[k]) == {"epoch-0002": PICTURES, "epoch-0004": PICTURES}
        for file in pictured[k].pictures.rglob("*.png"):
            assert file.read_bytes() == (stopped[k].path / file.relative_to(pictured[k].path)).read_bytes()
            if file.parent.name == "pictures":
                assert file.read_bytes() == (plain[k].path / file.relative_to(pictured[k].path)).read_bytes()


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


def test_pictures_of_an_epoch_equal_those_of_a_training_that_ends_there(in_folders) -> None:
    """So they use the same noise at every epoch, and do not depend on the pack."""
    points = [make_point(*SMALL, "epochs=4", f"latent={latent}", "pictures_every_epochs=1") for latent in (3, 5)]
    folders, (short,) = in_folders(2), in_folders(1, "short")
    train_pack(points, folders)
    train_pack([replace(points[0], epochs=2)], [short])
    assert list(drawn(folders[0])) == [
        "epoch-0001",
        "epoch-0002",
        "epoch-0003",
    ]  # those of the last epoch are in pictures/
    assert list(drawn(short)) == ["epoch-0001"]
    for name in PICTURES:
        one, other = (
            np.asarray(Image.open(path / name), int) for path in (folders[0].epoch_pictures(2), short.pictures)
        )
        assert np.abs(one - other).max() <= 1  # packed arithmetic may round differently


def test_pictures_are_drawn_before_the_row_and_only_of_living_points(in_folders) -> None:
    points = [make_point(*SMALL, "epochs=3", f"seed={seed}", "pictures_every_epochs=1") for seed in range(2)]
    starts = [new_start(point, DATASET.image_shape) for point in points]
    next(iter(starts[1].model.values()))[:] = torch.nan
    folders, calls = in_folders(2), []

    class Drawer(PictureDrawer):
        def end_of_epoch(self, run: Run, state: dict[str, torch.Tensor], dataset: Dataset, epoch: int) -> None:
            calls.append((folders.index(run.folder), epoch))
            assert run.folder.read_rows()[-1]["step"] < epoch * STEPS_PER_EPOCH

    train_pack(points, folders, starts, drawer=Drawer())
    assert calls == [(0, 1), (0, 2)]


@pytest.fixture
def warnings(caplog, monkeypatch) -> Iterator[Callable[[], list[str]]]:
    monkeypatch.setattr(logging.getLogger("vae_sweeps"), "propagate", True)
    with caplog.at_level(logging.WARNING, "vae_sweeps"):
        yield lambda: [line.getMessage() for line in caplog.records]


def test_failed_pictures_are_reported_once_and_change_nothing_else(warnings, monkeypatch, in_folders) -> None:
    point = make_point(*SMALL, "epochs=4", "pictures_every_epochs=1")
    plain, full = in_folders(1, "plain"), in_folders(1, "full")
    train_pack([replace(point, pictures_every_epochs=None)], plain)

    def no_space(image: Image.Image, path: Path) -> None:
        if "epoch" in path.parent.name:
            raise OSError("No space left on device")
        path.touch()

    monkeypatch.setattr(pictures, "save", no_space)
    train_pack([point], full)
    assert warnings() == ["full0: pictures not drawn (OSError: No space left on device)"]
    assert_same(full, plain)
    assert all((full[0].pictures / name).exists() for name in PICTURES)


def test_points_with_pictures_at_other_epochs_train_in_other_packs() -> None:
    assert pack_key(make_point("pictures_every_epochs=5")) != pack_key(make_point())


def test_overwriting_a_run_removes_its_pictures(in_folders) -> None:
    (folder,) = in_folders(1)
    train_pack([make_point(*SMALL, "epochs=2", "pictures_every_epochs=1")], [folder])
    assert drawn(folder)
    folder.clear()
    assert not folder.pictures.exists()
