from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from PIL import Image
from torch import Tensor

from vae_sweeps import pictures, plots

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

    def images(self, split: str) -> Tensor:
        assert split == "test"
        return self.x


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
    x[:, 0, 3, 3] = 1.0  # not in z: seen in the originals alone
    picture = pictures.interpolations(model, x, num_columns=7)
    assert picture.size == (7 * 58 + 2, num_rows * 58 + 2)
    for row in range(num_rows):
        first, last = x[2 * row, 0], x[min(2 * row + 1, num_images - 1), 0]
        between = [first + t * (last - first) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
        for column, expected in enumerate([first, *between, last]):
            drawn = tile(picture, 2 + 58 * column, 2 + 58 * row, 56, 56)[7::14, 7::14, 0].astype(int)
            assert np.abs(drawn - 255 * expected.numpy())[:3].max() <= 1
            assert drawn[3, 3] == (255 if column in (0, 6) else 0)


def test_of_no_images_no_picture_is_drawn() -> None:
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
        pictures.save_run_pictures(model, tmp_path / folder, seed)
    names = ["interpolations.png", "reconstructions.png", "samples.png", "traversal.png"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    for name in names:
        with Image.open(tmp_path / "a" / name, formats=["PNG"]) as picture:
            picture.load()
    content = {folder: (tmp_path / folder / "samples.png").read_bytes() for folder in "abc"}
    assert content["a"] == content["b"] != content["c"]


def test_a_run_is_asked_for_its_images_once_and_its_first_thousand_decide(tmp_path: Path) -> None:
    x = torch.rand(1500, 1, 2, 2) * torch.tensor([1.0, 2.0, 1.0, 3.0]).view(2, 2)
    x[1000:, 0, 0, 0] = 1e6
    asked = []

    class Counting(Linear):
        def images(self, split: str) -> Tensor:
            asked.append(split)
            return super().images(split)

    model = Counting(x, 4, torch.ones(4), pixel_range=(-2.0, 2.0))
    pictures.save_run_pictures(model, tmp_path, seed=0)
    assert asked == ["test"]
    pictures.save(pictures.traversal(model, (3, 1)), tmp_path / "expected.png")
    assert (tmp_path / "traversal.png").read_bytes() == (tmp_path / "expected.png").read_bytes()


def test_a_failed_picture_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "curves.nonsense"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="nonsense"):
        plots.save(plots.learning_curves([], "title"), path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 3), (10, 10), (1, 6)])
def test_a_mosaic_shows_every_cell_once_in_its_place(rows: int, columns: int) -> None:
    places = list(np.ndindex(rows, columns))
    cells = {place: Image.new("RGB", (60, 70), (255, i, 0)) for i, place in enumerate(places)}
    picture = pictures.mosaic(cells, ["1e-3"] * rows, ["128"] * columns, "beta", "latent")
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


def test_an_unfinished_cell_says_why() -> None:
    picture = pictures.mosaic({(0, 0): "diverged", (0, 2): None}, ["0"], ["1", "2", "3"], "beta", "latent")
    boxes = [picture.crop((x, picture.height - 200, x + 204, picture.height - 20)) for x in (60, 292, 524)]
    diverged, absent, none = map(np.asarray, boxes)
    assert all(has_ink(box) for box in boxes)
    assert (absent == none).all()
    assert (diverged != none).any()


LONG = "a value of more than forty characters, [32,64,128]"


@pytest.mark.parametrize(
    "build",
    [
        lambda cell: pictures.mosaic({(0, 0): cell}, [LONG], ["1"], "beta", "latent"),
        lambda cell: pictures.mosaic({(0, 0): cell}, ["1"], [LONG, "2"], "beta", "latent"),
        lambda cell: pictures.mosaic({(0, 0): cell}, ["1"], ["1"], LONG, "latent"),
        lambda cell: pictures.mosaic({(0, 0): cell}, ["1"], ["1"], "beta", LONG),
        lambda cell: pictures.mosaic({(0, 0): LONG.replace(" ", "_")}, ["1"], ["1"], "beta", "latent"),
        lambda cell: pictures.mosaic({(0, 0): LONG}, ["1"], ["1"], "beta", "latent"),
    ],
)
def test_long_words_are_not_cut(build: Callable[[Image.Image], Image.Image]) -> None:
    picture = build(Image.new("RGB", (20, 20), "white"))
    width, height = picture.size
    edges = [(0, 0, width, 3), (0, 0, 3, height), (width - 3, 0, width, height), (0, height - 3, width, height)]
    assert has_ink(picture)
    assert not any(has_ink(picture.crop(edge)) for edge in edges)


def rows_of_a_run(num: int) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for i in range(1, num + 1):
        start = 1e4 if i == 1 else 0.0
        rows.append({"step": i, "train/elbo": -100.0 - start, "train/log_px": -80.0 - start, "train/kl": 20.0 + i / 10})
        if i % 10 == 0:
            rows.append({"step": i, "val/elbo": -105.0, "val/log_px": -82.0, "val/kl": 23.0})
    return rows


def test_curves_show_each_value_and_the_first_step_does_not_set_the_limits(tmp_path: Path) -> None:
    figure = plots.learning_curves(rows_of_a_run(100), "beta=1 latent=10")
    elbo, error, kl = figure.axes
    assert [len(np.asarray(line.get_xdata())) for line in elbo.lines] == [100, 10]
    assert np.asarray(error.lines[1].get_ydata()).tolist() == [82.0] * 10  # -log p(x|z)
    assert all("nats" in axes.get_title(loc="left") for axes in figure.axes)
    assert elbo.get_ylim()[0] > -110
    assert error.get_ylim()[1] < 90
    assert kl.get_yscale() == "linear"
    plots.save(figure, tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    with Image.open(tmp_path / "curves.png") as picture:
        picture.load()
        assert picture.width == 900


def test_a_collapsing_kl_is_drawn_on_a_log_scale_that_ends() -> None:
    rows = [{"step": i, "train/kl": max(30 * 0.8**i - 1e-9, 0.0)} for i in range(200)]
    _, _, kl = plots.learning_curves(rows, "beta=100").axes
    assert kl.get_yscale() == "log"
    assert 1e-4 < kl.get_ylim()[0] < 1e-3


def test_curves_stop_where_values_are_not_finite(tmp_path: Path) -> None:
    rows = rows_of_a_run(20)
    rows += [{"step": 21, "train/elbo": float("nan"), "train/log_px": float("-inf"), "train/kl": float("inf")}]
    elbo, error, kl = plots.learning_curves(rows, "diverged").axes
    assert [np.asarray(axes.lines[0].get_xdata())[-1] for axes in (elbo, error, kl)] == [20, 20, 20]
    assert elbo.get_xlim()[1] > 21


@pytest.mark.parametrize("rows", [[], rows_of_a_run(1), [{"step": 0, "val/elbo": 0.0}], [{"step": 3, "val/kl": None}]])
def test_curves_of_next_to_nothing_can_be_drawn(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    figure = plots.learning_curves(rows, "one row")
    for axes in figure.axes:
        assert all(line.get_marker() == "o" for line in axes.lines)
        assert np.isfinite(axes.get_ylim()).all()
    plots.save(figure, tmp_path / "curves.png")


def dots(figure: Figure) -> tuple[np.ndarray, list[str]]:
    """The dots [N,2] of a map and their colours [N], in the order in which they are drawn."""
    (drawn,) = (item for item in figure.axes[0].collections if isinstance(item, PathCollection))
    return np.asarray(drawn.get_offsets()), [to_hex(colour) for colour in np.asarray(drawn.get_facecolor())]


def gaussian(num: int, num_latents: int, seed: int = 0) -> np.ndarray:
    """Posterior means [N,L] of a different variance in each latent."""
    scales = np.linspace(2.0, 0.5, num_latents)
    return (np.random.default_rng(seed).standard_normal((num, num_latents)) * scales).astype(np.float32)


@pytest.mark.parametrize("num_classes", [1, 3, 10])
def test_a_map_shows_two_latents_as_they_are_and_the_legend_names_their_colours(num_classes: int) -> None:
    mu = gaussian(400, 2)
    labels = np.arange(400) * num_classes // 400 + 5  # sorted: drawn in order, the last class would lie on top
    figure = plots.latent_map(mu, labels, "title")
    axes = figure.axes[0]
    points, colours = dots(figure)
    legend = axes.get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    marks = [to_hex(mark.get_color()) for mark in legend.get_lines()]
    assert names == [str(5 + k) for k in range(num_classes)]
    assert len(set(marks)) == num_classes
    class_of = dict(zip(marks, names, strict=True))
    drawn = {(x, y, class_of[colour]) for (x, y), colour in zip(points.tolist(), colours, strict=True)}
    assert drawn == {(x, y, str(label)) for (x, y), label in zip(mu.tolist(), labels, strict=True)}
    if num_classes > 1:
        assert set(colours[:100]) == set(colours[-100:]) == set(marks)
    again, _ = dots(plots.latent_map(mu, labels, "title"))
    assert (again == points).all()
    figure.draw_without_rendering()
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_many_classes_have_a_scale_in_place_of_a_legend() -> None:
    figure = plots.latent_map(gaussian(400, 2), np.arange(400) % 47, "title")
    axes, scale = figure.axes
    assert axes.get_legend() is None
    assert scale.get_ylim() == (0, 46)
    assert len(set(dots(figure)[1])) == 47


def test_distances_in_a_map_are_true_and_nothing_is_cut_without_need() -> None:
    mu = gaussian(1000, 2) * [5.0, 0.1]
    figure = plots.latent_map(mu, None, "title")
    (axes,) = figure.axes
    figure.draw_without_rendering()
    (x0, y0), (x1, y1), (x2, y2) = axes.transData.transform([(0, 0), (1, 0), (0, 1)])
    assert (x1 - x0, y1 - y0) == pytest.approx((y2 - y0, x2 - x0))
    low, high = np.array([axes.get_xlim(), axes.get_ylim()]).T
    num_outside = ((mu < low) | (mu > high)).any(axis=1).sum()
    assert num_outside == 0
    assert "outside" not in axes.get_title(loc="left")
    assert high[0] - low[0] < 1.2 * np.ptp(mu[:, 0])


@pytest.mark.parametrize("num", [100, 5000])
@pytest.mark.parametrize("num_latents", [1, 2])
def test_outliers_do_not_squash_a_map_and_are_counted(num: int, num_latents: int) -> None:
    mu = gaussian(num, num_latents)
    width = np.ptp(mu, axis=0).max()
    mu[num // 2] = -1e4
    axes = plots.latent_map(mu, None, "title").axes[0]
    low, high = axes.get_xlim()
    assert low < np.percentile(mu[:, 0], 1.5) < np.percentile(mu[:, 0], 98.5) < high
    assert high - low < 1.5 * width
    assert "1 outside" in axes.get_title(loc="left")


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_a_map_of_many_latents_shows_the_first_principal_components(shift: float) -> None:
    mu = gaussian(300, 7) @ np.linalg.qr(gaussian(7, 7, seed=1))[0] + shift
    figure = plots.latent_map(mu, None, "title")
    centred = mu.astype(float) - mu.astype(float).mean(axis=0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    shares = singular**2 / (singular**2).sum()
    (axes,) = figure.axes
    for label, share in zip((axes.get_xlabel(), axes.get_ylabel()), shares, strict=False):
        assert f"{100 * share:.1f}%" in label
    drawn, _ = dots(figure)
    expected = centred @ directions[:2].T
    for i in range(2):  # a component's sign is free
        assert np.sort(np.abs(drawn[:, i])) == pytest.approx(np.sort(np.abs(expected[:, i])), abs=1e-3)


def test_the_histograms_of_a_single_latent_stand_where_its_means_are() -> None:
    labels = np.arange(300) % 3
    mu = 4.0 * labels[:, None] + 0.1 * gaussian(300, 1)
    (axes,) = plots.latent_map(mu, labels, "title").axes
    rows = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
    assert len(rows) == 3
    for k, row in enumerate(rows):
        heights, edges, baseline = row.get_data()
        filled = np.flatnonzero(heights > baseline)
        values = mu[labels == k]
        bin_width = edges[1] - edges[0]
        assert edges[filled[0]] <= values.min() < edges[filled[0]] + bin_width
        assert edges[filled[-1]] <= values.max() <= edges[filled[-1]] + bin_width
        assert (np.min(heights), np.max(heights)) == pytest.approx((k, k + 0.9))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("num_latents", [1, 2, 10])
@pytest.mark.parametrize(("num", "value"), [(0, 0.1), (1, 0.1), (2, 0.1), (50, 0.1), (50, float("nan"))])
def test_a_map_of_a_collapsed_or_broken_model_can_be_drawn(
    tmp_path: Path, num: int, value: float, num_latents: int
) -> None:
    mu = np.full((num, num_latents), value, np.float32)
    figure = plots.latent_map(mu, np.arange(num) % 10, "title")
    plots.save(figure, tmp_path / "map.png")
    axes = figure.axes[0]
    assert np.isfinite([axes.get_xlim(), axes.get_ylim()]).all()
    assert ("not finite" in axes.get_title(loc="left")) == (num > 0 and not np.isfinite(value))


def test_rows_that_are_not_finite_are_left_out_with_their_labels() -> None:
    mu, labels = gaussian(100, 2), np.arange(100) % 2
    mu[0, 1], mu[1, 0], mu[3] = np.nan, np.inf, np.nan
    figure = plots.latent_map(mu, labels, "title")
    finite = np.isfinite(mu).all(axis=1)
    points, colours = dots(figure)
    assert sorted(points.tolist()) == sorted(mu[finite].tolist())
    by_class = {tuple(points[np.array(colours) == colour].mean(axis=0).round(4)) for colour in set(colours)}
    assert by_class == {tuple(mu[finite & (labels == k)].astype(float).mean(axis=0).round(4)) for k in (0, 1)}
    assert "3 not finite" in figure.axes[0].get_title(loc="left")


def bars(figure: Figure) -> list[float]:
    return [patch.get_height() for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize("num_latents", [1, 2, 10, 128, 512])
def test_bars_are_the_latents_kl_sorted(tmp_path: Path, num_latents: int) -> None:
    kl = np.random.default_rng(0).uniform(0.5, 4.0, num_latents).astype(np.float32)
    kl[: num_latents // 2] = 0.009
    figure = plots.kl_bars(kl, "title")
    (axes,) = figure.axes
    assert bars(figure) == sorted(kl.tolist(), reverse=True)
    num_used = num_latents - num_latents // 2
    assert f"{num_used} of {num_latents} latents" in axes.get_title(loc="left")
    assert f"{kl.astype(float).sum():.4g} in total" in axes.get_title(loc="left")
    plots.save(figure, tmp_path / "kl.png")
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    if num_latents <= 10:
        assert [kl[int(tick)] for tick in ticks] == sorted(kl, reverse=True)


@pytest.mark.parametrize(("smallest", "scale"), [(0.05, "linear"), (0.02, "log"), (1e-9, "log"), (0.0, "linear")])
def test_bars_are_on_a_log_scale_only_where_they_span_much(smallest: float, scale: str) -> None:
    (axes,) = plots.kl_bars(np.array([smallest, 4.0, 3.0]), "title").axes
    low, high = axes.get_ylim()
    assert axes.get_yscale() == scale
    assert high > 4.0
    assert low == 0.0 if scale == "linear" else 5e-4 < low < max(smallest, 1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("kl", "drawn"),
    [
        ([0.0, 0.0], [0.0, 0.0]),
        ([-1e-9, 2e-4, 0.0], [2e-4, 0.0, -1e-9]),
        ([1.0, float("nan"), 2.0, float("inf")], [2.0, 1.0]),
        ([float("nan")], []),
    ],
)
def test_bars_of_a_collapsed_or_broken_model_can_be_drawn(tmp_path: Path, kl: list[float], drawn: list[float]) -> None:
    figure = plots.kl_bars(np.array(kl), "title")
    plots.save(figure, tmp_path / "kl.png")
    assert bars(figure) == drawn
    assert ("not finite" in figure.axes[0].get_title(loc="left")) == (len(drawn) < len(kl))
