from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.conftest import make_point
from vae_sweeps.analysis import pictures, run_plots, style
from vae_sweeps.analysis.mosaic import mosaic
from vae_sweeps.config.schema import Pictures

UNIT = (0.0, 1.0)


@dataclass(frozen=True)
class Linear:
    """z = scale * the first `latent` pixels, and back: an exact inverse for images that are zero elsewhere."""

    x: Tensor
    latent: int
    scale: Tensor
    pixel_range: tuple[float, float] = UNIT

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = x.flatten(1)[:, : self.latent] * self.scale
        return mu, torch.ones_like(mu)

    def decode(self, z: Tensor) -> Tensor:
        pixels = torch.zeros(len(z), self.x[0].numel())
        pixels[:, : self.latent] = z / self.scale
        return pixels.unflatten(1, self.x.shape[1:])


def inverting_model(num: int, latent: int = 16) -> Linear:
    x = torch.zeros(num, 1, 4, 4)
    x.flatten(1)[:, :latent] = torch.rand(num, latent, generator=torch.Generator().manual_seed(0))
    return Linear(x, latent, torch.full((latent,), 3.0))


def tile(picture: Image.Image, left: int, top: int, width: int, height: int) -> np.ndarray:
    return np.asarray(picture)[top : top + height, left : left + width]


def has_ink(picture: Image.Image) -> bool:
    return bool((np.asarray(picture.convert("L")) < 200).any())


@pytest.mark.parametrize(("side", "enlarged"), [(1, 56), (8, 56), (28, 56), (32, 64), (56, 56), (64, 64)])
def test_small_images_are_enlarged_by_a_whole_factor(side: int, enlarged: int) -> None:
    picture = pictures.grid(torch.zeros(6, 1, side, side), 3, UNIT)
    assert picture.size == (3 * enlarged + 4 * 2, 2 * enlarged + 3 * 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_stands_at_its_row_and_column(channels: int) -> None:
    images = torch.rand(8, channels, 64, 60)
    picture = pictures.grid(images, 3, UNIT)
    assert picture.size == (3 * 62 + 2, 3 * 66 + 2)
    expected = (255 * images[4]).round().to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0)
    assert (tile(picture, 2 + 62, 2 + 66, 60, 64) == expected.numpy()).all()
    missing = tile(picture, 2 + 2 * 62, 2 + 2 * 66, 60, 64)
    assert missing.min() == missing.max() > 200


def test_values_outside_the_pixel_range_are_clipped() -> None:
    images = torch.tensor([-3.0, -1.0, 0.0, 1.0, 7.0, float("nan"), float("inf")]).view(-1, 1, 1, 1)
    picture = np.asarray(pictures.grid(images, 7, (-1.0, 1.0)))
    assert [int(picture[30, 30 + 58 * i, 0]) for i in range(7)] == [0, 0, 128, 255, 255, 0, 255]


@pytest.mark.parametrize("num_images", [3, 23, 50])
def test_every_original_stands_directly_above_its_reconstruction(num_images: int) -> None:
    model = inverting_model(num_images)
    picture = pictures.reconstructions(model, model.x)
    num = min(num_images, 40)
    across, pairs = min(num, 10), -(-num // 10)
    assert picture.size == (across * 58 + 2, pairs * (2 * 58 + 6) - 6 + 2)
    for i in range(num):
        left, top = 2 + i % 10 * 58, 2 + i // 10 * (2 * 58 + 6)
        original = tile(picture, left, top, 56, 56)
        expected = (255 * model.x[i, 0]).round().to(torch.uint8).numpy()
        assert (original[7::14, 7::14, 0] == expected).all()
        reconstruction = tile(picture, left, top + 58, 56, 56)
        assert np.abs(reconstruction.astype(int) - original).max() <= 1  # one rounding of x * 3 / 3


@pytest.mark.parametrize(("num_images", "num_rows"), [(1, 1), (2, 1), (5, 2), (40, 8)])
def test_an_interpolation_goes_from_one_image_straight_to_another(num_images: int, num_rows: int) -> None:
    model = inverting_model(num_images, latent=9)
    x = model.x.clone()
    x[:, 0, 3, 3] = 1.0  # not in z, so visible only in the originals
    picture = pictures.interpolations(model, x, num_columns=7)
    assert picture.size == (7 * 58 + 2, num_rows * 58 + 2)
    for row in range(num_rows):
        first, last = x[2 * row, 0], x[min(2 * row + 1, num_images - 1), 0]
        between = [first + t * (last - first) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
        for column, expected in enumerate([first, *between, last]):
            drawn = tile(picture, 2 + 58 * column, 2 + 58 * row, 56, 56)[7::14, 7::14, 0].astype(int)
            assert np.abs(drawn - 255 * expected.numpy())[:3].max() <= 1
            assert drawn[3, 3] == (255 if column in (0, 6) else 0)


def test_a_picture_without_images_is_refused() -> None:
    model = inverting_model(4)
    with pytest.raises(ValueError, match="at least one image"):
        pictures.interpolations(model, model.x[:0])


def test_samples_are_decoded_noise_eight_across() -> None:
    model = inverting_model(1)
    eps = torch.zeros(64, 16)
    eps[10] = 3.0
    picture = pictures.samples(model, eps)
    assert picture.size == (8 * 58 + 2, 8 * 58 + 2)
    assert (tile(picture, 2 + 2 * 58, 2 + 58, 56, 56) == 255).all()
    assert (tile(picture, 2 + 3 * 58, 2 + 58, 56, 56) == 0).all()


def test_rows_of_a_traversal_follow_the_first_dim_and_columns_the_second() -> None:
    model = Linear(torch.zeros(1, 1, 2, 2), 4, torch.ones(4), pixel_range=(-2.0, 2.0))
    picture = pictures.traversal(model, (3, 1), num=5)
    assert picture.size == (5 * 58 + 2, 5 * 58 + 2)
    greys = [0, 64, 128, 191, 255]  # -2, -1, 0, 1, 2
    for row in range(5):
        for column in range(5):
            z = tile(picture, 2 + column * 58, 2 + row * 58, 56, 56)[14::28, 14::28, 0].flatten()
            assert z.tolist() == [128, greys[column], 128, greys[row]]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_sample_stands_directly_above_its_neighbour(channels: int) -> None:
    samples, nearest = torch.rand(2, 11, channels, 56, 56)
    picture = pictures.neighbours(samples, nearest)
    assert picture.size == (8 * 58 + 2, 2 * (2 * 58 + 6) - 6 + 2)
    for i in range(11):
        for below, image in enumerate([samples[i], nearest[i]]):
            drawn = tile(picture, 2 + i % 8 * 58, 2 + i // 8 * (2 * 58 + 6) + below * 58, 56, 56)
            assert (drawn == (255 * image).round().to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).numpy()).all()


@pytest.mark.parametrize("dims", [(0,), (0, 0)])
def test_a_single_latent_gives_a_single_row(dims: tuple[int, ...]) -> None:
    model = Linear(torch.zeros(1, 1, 1, 1), 1, torch.ones(1), pixel_range=(-3.0, 3.0))
    picture = pictures.traversal(model, dims, num=3, extent=3.0)
    assert picture.size == (3 * 58 + 2, 58 + 2)
    assert np.asarray(picture)[30, [30, 88, 146], 0].tolist() == [0, 128, 255]


def test_most_active_dims_come_first_and_ties_in_order() -> None:
    x = torch.rand(1, 1, 2, 2) + torch.rand(1000, 1, 1, 1)  # the same variance in every pixel
    model = Linear(x, 4, torch.tensor([0.0, 1.0, 2.0, 0.0]))
    assert pictures.most_active(model, x) == [2, 1]
    assert pictures.most_active(model, x, num=9) == [2, 1, 0, 3]
    assert pictures.most_active(Linear(x, 4, torch.ones(4)), x[:1]) == [0, 1]
    assert pictures.most_active(Linear(x, 1, torch.ones(1)), x) == [0]


@pytest.mark.parametrize("latent", [1, 16])
def test_a_runs_pictures_are_whole_and_depend_on_the_seed_alone(tmp_path: Path, latent: int) -> None:
    model = inverting_model(50, latent)
    for folder, seed in [("a", 5), ("a", 5), ("b", 5), ("c", 6)]:
        pictures.save_run_pictures(model, model.x, tmp_path / folder, seed, make_point().pictures)
    names = ["interpolations.png", "reconstructions.png", "samples.png", "traversal.png"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    for name in names:
        with Image.open(tmp_path / "a" / name, formats=["PNG"]) as picture:
            picture.load()
    content = {folder: (tmp_path / folder / "samples.png").read_bytes() for folder in "abc"}
    assert content["a"] == content["b"] != content["c"]


def test_the_traversals_dims_depend_on_all_images_of_a_run(tmp_path: Path) -> None:
    x = torch.rand(1000, 1, 2, 2) * torch.tensor([1.0, 2.0, 1.0, 3.0]).view(2, 2)
    model = Linear(x, 4, torch.ones(4), pixel_range=(-2.0, 2.0))
    pictures.save_run_pictures(model, x, tmp_path, seed=0, settings=make_point().pictures)
    pictures.save(pictures.named(pictures.traversal(model, (3, 1)), (3, 1), 2.0), tmp_path / "expected.png")
    assert (tmp_path / "traversal.png").read_bytes() == (tmp_path / "expected.png").read_bytes()


def test_a_runs_pictures_are_as_configured(tmp_path: Path) -> None:
    """60 samples in ten columns, 12 reconstructions, and the first two latents from -1 to 1."""
    model = inverting_model(50)
    settings = Pictures(
        num_reconstructions=12, num_samples=60, columns=10, traversal_dims="first", traversal_extent=1.0
    )
    pictures.save_run_pictures(model, model.x, tmp_path, seed=0, settings=settings)
    sizes = {"samples": (10 * 58 + 2, 6 * 58 + 2), "reconstructions": (10 * 58 + 2, 2 * (2 * 58 + 6) - 6 + 2)}
    for name, size in sizes.items():
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.size == size
    expected = pictures.named(pictures.traversal(model, (0, 1), extent=1.0), (0, 1), 1.0)
    pictures.save(expected, tmp_path / "expected.png")
    assert (tmp_path / "traversal.png").read_bytes() == (tmp_path / "expected.png").read_bytes()


def test_a_model_with_a_single_latent_is_traversed_along_it(tmp_path: Path) -> None:
    model = inverting_model(4, latent=1)
    settings = make_point("pictures.traversal_dims=first").pictures
    pictures.save_run_pictures(model, model.x, tmp_path, seed=0, settings=settings)
    with Image.open(tmp_path / "traversal.png") as picture:
        assert picture.size == (10 * 58 + 2, 58 + 2 + pictures.NAMES_PX)


def test_a_traversal_keeps_its_pixels_beside_the_names_of_its_latents() -> None:
    plain = Image.new("RGB", (300, 200), "red")
    margin = pictures.NAMES_PX
    picture = pictures.named(plain, (3, 12), 2.0)
    assert picture.size == (300 + margin, 200 + margin)
    assert picture.crop((margin, 0, 300 + margin, 200)).tobytes() == plain.tobytes()
    below = picture.crop((margin, 200, 300 + margin, 200 + margin))
    beside = picture.crop((0, 0, margin, 200)).rotate(-90, expand=True)
    assert len(below.getcolors() or []) > 1
    # The values fall towards the top: the strip beside it reads 2 ... -2, where the one below reads -2 ... 2.
    upside = pictures.named(Image.new("RGB", (200, 200), "red"), (12, 3), -2.0)
    assert beside.tobytes() == upside.crop((margin, 200, 200 + margin, 200 + margin)).tobytes()


def test_grey_pictures_are_saved_with_one_channel_and_coloured_ones_with_three(tmp_path: Path) -> None:
    for name, mode, channels in (("grey", "L", 1), ("coloured", "RGB", 3)):
        picture = pictures.grid(torch.rand(4, channels, 8, 8), 2, UNIT)
        pictures.save(picture, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as read:
            assert read.mode == mode
            assert (np.asarray(read.convert("RGB")) == np.asarray(picture)).all()


def test_a_failed_picture_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    figure = run_plots.learning_curves([], "title")
    figure.set_size_inches(1e6, 1e6)
    with pytest.raises(ValueError, match="too large"):
        style.save(figure, path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 3), (10, 10), (1, 6)])
def test_a_mosaic_shows_every_cell_once_in_its_place(rows: int, columns: int) -> None:
    places = list(np.ndindex(rows, columns))
    cells = {place: Image.new("RGB", (60, 70), (255, i, 0)) for i, place in enumerate(places)}
    picture = mosaic(cells, ["1e-3"] * rows, ["128"] * columns, "beta", "latent")
    pixels = np.asarray(picture)
    corners = []
    for i in range(len(places)):
        ys, xs = np.nonzero((pixels == (255, i, 0)).all(axis=2))
        assert (len(ys), np.ptp(xs) + 1, np.ptp(ys) + 1) == (60 * 70, 60, 70)
        corners.append((xs.min(), ys.min()))
    left, top = corners[0]
    across, down = (picture.width - left) // columns, (picture.height - top) // rows
    assert corners == [(left + c * across, top + r * down) for r, c in places]
    assert has_ink(picture.crop((0, 0, picture.width, int(top))))
    assert has_ink(picture.crop((0, int(top), int(left), picture.height)))


def test_an_unfinished_cell_shows_the_reason() -> None:
    picture = mosaic({(0, 0): "diverged", (0, 2): None}, ["0"], ["1", "2", "3"], "beta", "latent")
    boxes = [picture.crop((x, picture.height - 200, x + 204, picture.height - 20)) for x in (60, 292, 524)]
    diverged, absent, none = map(np.asarray, boxes)
    assert all(has_ink(box) for box in boxes)
    assert (absent == none).all()
    assert (diverged != none).any()


LONG = "a value of more than forty characters, [32,64,128]"


@pytest.mark.parametrize(
    "build",
    [
        lambda cell: mosaic({(0, 0): cell}, [LONG], ["1"], "beta", "latent"),
        lambda cell: mosaic({(0, 0): cell}, ["1"], [LONG, "2"], "beta", "latent"),
        lambda cell: mosaic({(0, 0): cell}, ["1"], ["1"], LONG, "latent"),
        lambda cell: mosaic({(0, 0): cell}, ["1"], ["1"], "beta", LONG),
        lambda cell: mosaic({(0, 0): LONG.replace(" ", "_")}, ["1"], ["1"], "beta", "latent"),
        lambda cell: mosaic({(0, 0): LONG}, ["1"], ["1"], "beta", "latent"),
    ],
)
def test_long_words_are_not_cut(build: Callable[[Image.Image], Image.Image]) -> None:
    picture = build(Image.new("RGB", (20, 20), "white"))
    width, height = picture.size
    edges = [(0, 0, width, 3), (0, 0, 3, height), (width - 3, 0, width, height), (0, height - 3, width, height)]
    assert has_ink(picture)
    assert not any(has_ink(picture.crop(edge)) for edge in edges)
