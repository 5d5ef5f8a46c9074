"""Pictures during training: they do not change the results, and show the model of their epoch."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import make_point
from tests.helpers.small_jobs import CONV_BN, DATASET, SMALL, STEPS_PER_EPOCH, assert_same, stop_after, train_pack
from vae_sweeps.analysis import pictures
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.launch.draw import PictureDrawer
from vae_sweeps.launch.packing import pack_key
from vae_sweeps.runs.run import Run
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.training.pack import new_start

pytestmark = pytest.mark.usefixtures("no_curves")
PICTURES = ["interpolations.png", "reconstructions.png", "samples.png", "traversal.png"]


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
