"""dSprites and 3D Shapes: small files in their formats, and files that are not theirs."""

import hashlib
import io
import sys
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.downloads import Source, find_or_download
from vae_sweeps.data.dsprites_npz import DSPRITES, from_npz
from vae_sweeps.data.factorial import Factorial, factorial_dataset
from vae_sweeps.data.shapes3d_h5 import SHAPES3D, from_hdf5

SIZES = (3, 2, 4, 3, 5)
NUM = 360
(DSPRITES_NAME,) = DSPRITES.sums
(SHAPES3D_NAME,) = SHAPES3D.sums


def load(source: Factorial, cache: Path, num_images: int | None = None) -> Dataset:
    return factorial_dataset(
        source, num_images=num_images, pixel_range=[0, 1], seed=0, cache=str(cache), resident="auto"
    )


def numbered(num: int) -> np.ndarray:
    """Images [num,64,64] of 0 and 1 that hold their own number in binary, from the first pixel on."""
    images = np.zeros((num, 64 * 64), np.uint8)
    images[:, :16] = np.arange(num)[:, None] >> np.arange(16) & 1
    return images.reshape(num, 64, 64)


def number_of(pixels: torch.Tensor) -> int:
    """The number in binary that `numbered` has written into these pixels [64,64] of 0 and 255."""
    return int((pixels.flatten()[:16] // 255 * 2 ** torch.arange(16)).sum())


def arrays(**changes: Any) -> dict[str, np.ndarray]:
    classes = np.stack(np.unravel_index(np.arange(NUM), (1, *SIZES)), 1)
    return {"imgs": numbered(NUM), "latents_classes": classes, "metadata": np.array("not read")} | changes


def npz(folder: Path, content: dict[str, np.ndarray]) -> Path:
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / DSPRITES_NAME, **content)  # type: ignore[arg-type]
    return folder / DSPRITES_NAME


def test_images_and_factors_of_an_npz_stay_together(tmp_path: Path) -> None:
    dataset = load(from_npz(npz(tmp_path, arrays()), SIZES), tmp_path / "cache")
    factors, labels = dataset.factors, dataset.labels
    assert factors is not None
    assert labels is not None
    assert (factors.names, factors.sizes) == (("shape", "scale", "orientation", "x", "y"), SIZES)
    assert [dataset.num_images(split) for split in SPLITS] == [NUM - 72, 36, 36]
    numbers = []
    for split in SPLITS:
        for image, classes, label in zip(dataset.images[split], factors.classes[split], labels[split], strict=True):
            numbers.append(number_of(image[0]))
            assert tuple(classes.tolist()) == np.unravel_index(numbers[-1], SIZES)
            assert label == classes[0]
    assert sorted(numbers) == list(range(NUM))
    assert numbers != sorted(numbers)


def test_some_images_are_chosen_once_and_for_all(tmp_path: Path) -> None:
    path = npz(tmp_path, arrays())
    one, other = (load(from_npz(path, SIZES), tmp_path / cache, num_images=50) for cache in ("a", "b"))
    assert one.fingerprint == other.fingerprint
    assert [one.num_images(split) for split in SPLITS] == [40, 5, 5]
    numbers = {number_of(image[0]) for split in SPLITS for image in one.images[split]}
    assert len(numbers) == 50
    assert numbers != set(range(50))
    with pytest.raises(ValueError, match=r"^data\.num_images=361: dsprites has 360 images; must not be more$"):
        load(from_npz(path, SIZES), tmp_path / "a", num_images=361)


def test_the_file_is_read_once_and_again_if_it_has_changed(tmp_path: Path) -> None:
    path, cache = npz(tmp_path, arrays()), tmp_path / "cache"
    first = load(from_npz(path, SIZES), cache)

    def unreadable() -> Iterator[np.ndarray]:
        raise AssertionError("the images are in the cache")

    source = from_npz(path, SIZES)
    assert load(replace(source, blocks=unreadable), cache) is not None
    changed = load(from_npz(npz(tmp_path, arrays(imgs=1 - numbered(NUM))), SIZES), cache)
    assert changed.fingerprint != first.fingerprint


def test_reading_holds_a_small_part_of_the_images(tmp_path: Path) -> None:
    """The images have 33 MB; a block of them has 2 MB."""
    sizes = (3, 5, 6, 9, 10)
    classes = np.stack(np.unravel_index(np.arange(8100), (1, *sizes)), 1)
    path = npz(tmp_path, {"imgs": numbered(8100), "latents_classes": classes})
    tracemalloc.start()
    try:
        load(from_npz(path, sizes), tmp_path / "cache")
        assert tracemalloc.get_traced_memory()[1] < 15e6
    finally:
        tracemalloc.stop()


def _without(name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in arrays().items() if key != name}


NO_DSPRITES: dict[str, tuple[Callable[[], dict[str, np.ndarray]], str]] = {
    "no images": (lambda: _without("imgs"), "no item named 'imgs.npy'"),
    "no classes": (lambda: _without("latents_classes"), "no item named 'latents_classes.npy'"),
    "fewer images": (lambda: arrays(imgs=numbered(NUM - 1)), r"imgs is uint8 of \[359, 64, 64\], expected"),
    "floats": (lambda: arrays(imgs=numbered(NUM).astype(np.float32)), r"imgs is float32 of"),
    "large integers": (lambda: arrays(imgs=numbered(NUM).astype(np.int32)), "imgs are int32, expected uint8"),
    "grey pixels": (lambda: arrays(imgs=numbered(NUM) * np.uint8(7)), "other values than 0 and 1"),
    "pickled": (lambda: arrays(imgs=np.array([None] * NUM)), "imgs is object"),
    "another order": (
        lambda: arrays(latents_classes=arrays()["latents_classes"][::-1]),
        "latents_classes are not those of dSprites",
    ),
}


@pytest.mark.parametrize("case", NO_DSPRITES)
def test_another_npz_is_refused_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    content, message = NO_DSPRITES[case]
    path = npz(tmp_path, content())
    with pytest.raises(ValueError, match=message) as error:
        load(from_npz(path, SIZES), tmp_path / "cache")
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache").glob("**/*.*"))


def _flip(content: bytes, offset: int) -> bytes:
    return content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"<html>please log in</html>",
        lambda content: b"",
        lambda content: _flip(content, 300),
    ],
    ids=["truncated", "a page", "empty", "a flipped bit"],
)
def test_a_damaged_npz_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = npz(tmp_path, arrays())
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(
        ValueError, match=r"is not the file of dSprites, or is damaged: .*; remove it to have it downloaded again"
    ) as error:
        load(from_npz(path, SIZES), tmp_path / "cache")
    assert "\n" not in str(error.value)


def test_a_header_that_declares_more_than_dsprites_has_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (10**12, 6)})
    with zipfile.ZipFile(tmp_path / DSPRITES_NAME, "w") as archive:
        archive.writestr("latents_classes.npy", header.getvalue())
    with pytest.raises(ValueError, match=r"latents_classes is int64 of \[1000000000000, 6\], expected"):
        from_npz(tmp_path / DSPRITES_NAME, SIZES)


def test_a_file_of_another_size_is_one_line_of_the_command(refused, tmp_path: Path) -> None:
    path = npz(tmp_path / "root", arrays())
    line = refused("data=dsprites", f"data.root={path.parent}")
    assert line == (
        f"{path}: is not the file of dSprites, or is damaged: latents_classes is int64 of [360, 6], expected whole "
        "numbers of [737280, 6]; remove it to have it downloaded again"
    )


def test_a_download_is_compared_with_its_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    path = npz(tmp_path / "served", arrays())
    handler = partial(
        type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}), directory=path.parent
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        mirrors = (f"http://127.0.0.1:{server.server_port}/",)
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        right = Source(mirrors, {DSPRITES_NAME: md5}, "plain", "md5")
        found = find_or_download(str(tmp_path / "root"), right)
        wrong = Source(mirrors, DSPRITES.sums, "plain", "md5")
        with pytest.raises(ValueError, match=rf"md5 {md5[:12]}\.\.\., expected 7da33b31b13a\.\.\."):
            find_or_download(str(tmp_path / "other"), wrong)
        server.shutdown()
    assert found[DSPRITES_NAME].read_bytes() == path.read_bytes()
    assert not (tmp_path / "other").exists()


# 3D Shapes

HUES = (2, 3, 2, 3, 4, 2)
NUM_ROOMS = 288


def hdf5(h5py: Any, folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    classes = np.stack(np.unravel_index(np.arange(NUM_ROOMS), HUES), 1)
    images = (numbered(NUM_ROOMS)[..., None] * np.array([255, 0, 255], np.uint8)).astype(np.uint8)
    content = {"images": images, "labels": classes * np.array([0.1, 0.1, 0.1, 0.07, 1, 4.3]) - 0.5} | changes
    with h5py.File(folder / SHAPES3D_NAME, "w") as file:
        for name, array in content.items():
            if array is not None:
                file.create_dataset(name, data=array, compression="gzip", chunks=(50, *array.shape[1:]))
    return folder / SHAPES3D_NAME


def test_images_and_factors_of_an_hdf5_file_stay_together(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    dataset = load(from_hdf5(h5py, hdf5(h5py, tmp_path), HUES), tmp_path / "cache")
    factors, labels = dataset.factors, dataset.labels
    assert factors is not None
    assert labels is not None
    assert factors.names == ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    assert (factors.sizes, dataset.image_shape) == (HUES, (3, 64, 64))
    numbers = []
    for split in SPLITS:
        for image, classes, label in zip(dataset.images[split], factors.classes[split], labels[split], strict=True):
            numbers.append(number_of(image[0]))
            assert torch.equal(image[2], image[0])
            assert not image[1].any()
            assert tuple(classes.tolist()) == np.unravel_index(numbers[-1], HUES)
            assert label == classes[4]
    assert sorted(numbers) == list(range(NUM_ROOMS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "images"),
        ({"labels": None}, "labels"),
        (
            {"images": np.zeros((NUM_ROOMS, 64, 64), np.uint8)},
            r"images is of \[288, 64, 64\], expected \[288, 64, 64, 3",
        ),
        ({"images": np.zeros((NUM_ROOMS, 64, 64, 3), np.float32)}, "images are float32, expected uint8"),
        ({"labels": np.zeros((NUM_ROOMS, 6))}, "labels are not those of 3D Shapes"),
    ],
    ids=["no images", "no labels", "grey", "floats", "other labels"],
)
def test_another_hdf5_file_is_refused_and_leaves_nothing(tmp_path: Path, changes: dict, message: str) -> None:
    h5py = pytest.importorskip("h5py")
    path = hdf5(h5py, tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as error:
        load(from_hdf5(h5py, path, HUES), tmp_path / "cache")
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache").glob("**/*.*"))


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_hdf5_file_is_refused(tmp_path: Path, share: float) -> None:
    h5py = pytest.importorskip("h5py")
    path = hdf5(h5py, tmp_path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="is not the file of 3D Shapes, or is damaged: ") as error:
        load(from_hdf5(h5py, path, HUES), tmp_path / "cache")
    assert "\n" not in str(error.value)


def test_without_h5py_the_extra_is_named(refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    line = refused("data=shapes3d", f"data.root={tmp_path}")
    assert line == "data=shapes3d: needs the package h5py: pip install 'vae-sweeps[hdf5]'"
