"""Pictures in the page: they fit, the most important ones stay, and those of earlier epochs are spread."""

import base64
import io

import pytest
from PIL import Image

from tests.helpers import report_runs
from vae_sweeps.report import thumbnails


def test_an_unreadable_picture_is_left_out_and_others_stay(tmp_path, caplog) -> None:
    run = report_runs.make_run(tmp_path, 1, 2)
    (run.pictures / "traversal.png").write_bytes(b"no picture")
    (pictures,) = thumbnails.embed([run], 10**6)
    assert set(pictures.images) == {"samples", "reconstructions"}
    assert "traversal.png" in caplog.text


def test_samples_of_some_epochs_are_spread_over_the_training_oldest_first(tmp_path) -> None:
    run = report_runs.make_run(tmp_path, 1, 2)
    for epoch in range(2, 23, 2):
        report_runs.draw(run.epoch_pictures(epoch), epoch)
    (pictures,) = thumbnails.embed([run], 10**7)
    assert list(pictures.earlier) == [2, 6, 10, 14, 18, 22]
    assert len({*pictures.earlier.values(), pictures.images["samples"]}) == 7
    for name in ("samples", "reconstructions", "traversal"):
        (run.pictures / f"{name}.png").unlink()  # as in training, when the newest are shown
    (pictures,) = thumbnails.embed([run], 10**7)
    assert pictures.epoch == 22
    assert list(pictures.earlier) == [2, 6, 10, 12, 16, 20]


def size_px(url: str) -> tuple[int, int]:
    kind, _, content = url.partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(content))).size


@pytest.mark.parametrize("max_bytes", [4 * 10**6, 10**6, 200_000, 100_000, 30_000, 0])
def test_pictures_fit_their_limit_and_the_most_important_ones_stay(tmp_path, max_bytes) -> None:
    runs = [report_runs.make_run(tmp_path, 1, 2, seed) for seed in range(4)]
    for run in runs:
        report_runs.draw(run.epoch_pictures(1))
    embedded = thumbnails.embed(runs, max_bytes)
    urls = [url for one in embedded for url in (*one.images.values(), *one.earlier.values())]
    assert sum(map(len, urls)) <= max_bytes
    assert all(one.earlier for one in embedded) == (max_bytes > 10**6)
    for run_pictures in embedded:
        assert {*run_pictures.images, *run_pictures.left_out} == {"samples", "reconstructions", "traversal"}
        assert all(0 < min(size_px(url)) <= max(size_px(url)) <= 800 for url in run_pictures.images.values())
    if max_bytes >= 100_000:
        assert all("samples" in run_pictures.images for run_pictures in embedded)
