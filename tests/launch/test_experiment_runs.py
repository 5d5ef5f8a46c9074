"""Each published set-up trains, and writes the rows and pictures that its source shows."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.conftest import make_dataset, make_options
from tests.helpers.presets import RANGES, SHAPES, point_of
from tests.helpers.training import CPU, runs_of
from vae_sweeps.analysis.pictures import NAMES_PX
from vae_sweeps.launch.draw import PictureDrawer
from vae_sweeps.launch.observe import JobObserver
from vae_sweeps.models.build import build_vae
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.tracker.link import Link
from vae_sweeps.training.loop import TrainOptions, train
from vae_sweeps.training.pack import Pack
from vae_sweeps.training.schedule import Schedule

# (rows, columns) of tiles of each picture, for 24 test images; originals and reconstructions are two rows.
GRIDS = {
    "mnist_textbook": {"samples": (6, 10), "traversal": (10, 10)},
    "mnist_beta": {"samples": (8, 8), "traversal": (10, 10)},
    "mnist_conv": {"samples": (8, 8), "traversal": (10, 10)},
    "celeba_tf1": {"samples": (8, 8), "traversal": (10, 10), "interpolations": (8, 10)},
    "celeba_conv": {"samples": (12, 12), "traversal": (10, 10)},
}
REDUCED = {
    "celeba_tf1": ["arch.channels=[4,8,8,16,16]"],
    "celeba_conv": ["arch.channels=[16,16,8,8,4]", "arch.decoder_channels=[4,4,8,8,16,16]"],
}


@pytest.mark.parametrize("experiment", GRIDS)
def test_two_epochs_lower_the_loss_and_draw_the_pictures_of_the_source(experiment: str, tmp_path: Path) -> None:
    reduced = ["batch_size=8", "epochs=2", "steps=null", "latent=6", *REDUCED.get(experiment, [])]
    point = point_of(experiment, *reduced, "device=cpu")
    shape, folder = SHAPES[experiment], RunFolder(tmp_path / "run")
    folder.path.mkdir()
    dataset = make_dataset(shape, (120, 8, 24), pixel_range=RANGES.get(experiment, (0.0, 1.0)))
    (run,), drawer = runs_of([point], [folder], dataset), PictureDrawer()
    pack = Pack([run], shape, CPU)
    evaluation = make_options().evaluation
    observer = JobObserver(pack, dataset, evaluation, drawer=drawer, link=Link(), show=lambda progress: None)
    (outcome,) = train(pack, dataset, TrainOptions(), observer)
    assert outcome.status == "done"
    rows = folder.read_rows()
    assert rows[-1]["train/loss"] < rows[0]["train/loss"]
    drawer.end_of_epoch(run, pack.model_state(0), dataset, 2)
    tile = max(56, shape[1])
    for name, (num_rows, num_columns) in GRIDS[experiment].items():
        with Image.open(folder.epoch_pictures(2) / f"{name}.png") as picture:
            names_px = NAMES_PX if name == "traversal" else 0
            assert picture.size == (num_columns * (tile + 2) + 2 + names_px, num_rows * (tile + 2) + 2 + names_px), name
    assert folder.epoch_pictures(1).exists() == (experiment in ("mnist_conv", "celeba_conv"))


def test_pictures_of_mnist_conv_are_drawn_after_the_first_and_the_ninth_epoch() -> None:
    point = point_of("mnist_conv")
    schedule = Schedule(point, num_images=7 * point.batch_size)
    assert [s for s in range(1, 10 * 7 + 1) if schedule.wants_pictures(s)] == [7, 63]


def test_pictures_at_epochs_are_additional_to_pictures_every_epochs() -> None:
    point = replace(point_of("mnist_conv"), pictures_every_epochs=4)
    schedule = Schedule(point, num_images=2 * point.batch_size)
    assert [s for s in range(1, 21) if schedule.wants_pictures(s)] == [2, 8, 16, 18]


def test_rows_are_logged_at_powers_of_two_or_every_100_steps() -> None:
    steps, num_images = range(1, 1025), 10**9  # no epoch ends within these steps
    assert [s for s in steps if Schedule(point_of("mnist_beta"), num_images).wants_row(s)] == [2**i for i in range(11)]
    assert [s for s in steps if Schedule(point_of("mnist_conv"), num_images).wants_row(s)] == list(
        range(100, 1025, 100)
    )


def test_celeba_presets_can_be_swept_and_changed() -> None:
    """Tests only the composition, since the images of CelebA are not available."""
    point = point_of("celeba_conv", "beta=0.5", "latent=64", "seed=3")
    assert (point.beta, point.latent, point.seed) == (0.5, 64, 3)
    assert (point.data["size"], point.data["crop"], list(point.data["pixel_range"])) == (64, 148, [0, 1])
    assert (point.optim.lr, point.optim.lr_decay_per_epoch, point.epochs) == (0.005, 0.95, 100)
    assert point_of("celeba_conv").seed == 1265
    tutorial = point_of("celeba_tf1")
    assert (tutorial.data["size"], tutorial.data["crop"]) == (128, "center")
    assert list(tutorial.data["pixel_range"]) == [-1, 1]
    assert make_options("experiment=celeba_tf1").evaluation.neighbours > 0
    pooled = point_of("celeba_tf1", "arch.downsampling=max_pool", "arch.kernel=3")
    assert build_vae([pooled], SHAPES["celeba_tf1"]).encoder(torch.rand(1, 3, 128, 128)).shape == (1, 1, 8192)


QUICK = ["data=mnist5k", "evaluation=none", "tracker=none"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "overrides", "steps"),
    [
        ("mnist_beta", ["steps=64"], [1, 2, 4, 8, 16, 32, 64]),
        ("mnist_textbook", ["steps=3", "arch.hidden=[20]"], [3]),
        ("mnist_conv", ["steps=3", "likelihood=gaussian", "arch.output=sigmoid"], [3]),
    ],
)
def test_a_preset_runs_from_the_command_line(door, tmp_path, experiment, overrides, steps) -> None:
    ended = door(f"experiment={experiment}", *QUICK, *overrides, f"output_dir={tmp_path / 'out'}")
    assert ended.code == 0, ended.err
    (run,) = (tmp_path / "out" / "runs").iterdir()
    assert [row["step"] for row in RunFolder(run).read_rows()] == steps
    assert json.loads((run / "result.json").read_text())["status"] == "done"
    assert (run / "pictures" / "samples.png").exists()


@pytest.mark.slow
def test_a_preset_can_be_swept_from_the_command_line(door, tmp_path) -> None:
    arguments = ["experiment=mnist_beta", "beta=0,0.01", "latent=2,3", "steps=2", "arch.hidden=[9]", *QUICK]
    assert door("-m", *arguments, f"output_dir={tmp_path / 'out'}").code == 0
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 4


def test_an_output_function_is_refused_with_a_bernoulli_likelihood(refused) -> None:
    line = refused("experiment=mnist_conv", "arch.output=sigmoid", *QUICK)
    assert line.startswith("arch.output=sigmoid: must be identity with likelihood=bernoulli")


def test_sprites_beta_is_a_sweep_over_beta_and_seeds(door, tmp_path) -> None:
    ended = door("-m", "experiment=sprites_beta", "dry_run=true", f"output_dir={tmp_path / 'out'}")
    assert ended.code == 0, ended.err
    assert "15 points to train" in ended.out


def test_sprites_beta_measures_disentanglement_unless_told_not_to() -> None:
    assert make_options("experiment=sprites_beta").evaluation.factors
    assert not make_options("experiment=sprites_beta", "evaluation.factors=false").evaluation.factors


def test_sprites_beta_without_m_says_that_it_is_a_sweep(refused) -> None:
    assert refused("experiment=sprites_beta").endswith("describes a sweep; put -m in front of it, or remove it")
