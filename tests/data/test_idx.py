"""IDX files: errors for wrong or missing ones, and real downloads from a local server."""

import gzip
import hashlib
import os
import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.idx_files import (
    NUM_TEST,
    NUM_TRAIN,
    SIZE,
    idx_bytes,
    load,
    options,
    small,
    small_arrays,
    write_files,
)
from vae_sweeps.data.downloads import Source
from vae_sweeps.data.idx import FILES, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from vae_sweeps.data.mnist_family import from_idx_files, mnist
from vae_sweeps.system.memory import memory_bytes


def one_line(error: pytest.ExceptionInfo[ValueError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder with the four small files, zipped, and the address that serves it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = write_files(tmp_path / "served", small_arrays(), zipped=True)
    handler = partial(type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}), directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def dead_url(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address at which no server answers."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


def source_of(folder: Path, *mirrors: str) -> Source:
    """A source with the sums of a folder's .gz files as served."""
    sums = {name: hashlib.sha256((folder / f"{name}.gz").read_bytes()).hexdigest() for name in FILES}
    return Source(mirrors, sums, "gz")


def test_a_gzip_file_of_several_members_is_read_whole(tmp_path: Path) -> None:
    root = write_files(tmp_path / "root", small_arrays())
    content = (root / TRAIN_IMAGES).read_bytes()
    (root / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(content[:99]) + gzip.compress(content[99:]))
    (root / TRAIN_IMAGES).unlink()
    assert load(root).fingerprint == small(tmp_path).fingerprint


# Wrong files

TRAIN_BYTES = 16 + NUM_TRAIN * SIZE**2
ZIPPED = f"{TRAIN_IMAGES}.gz"


@pytest.mark.parametrize(
    ("name", "spoil", "expected"),
    [
        (TRAIN_IMAGES, lambda b: b[:-5], f"truncated: expected {TRAIN_BYTES} bytes, found {TRAIN_BYTES - 5} bytes"),
        (TRAIN_IMAGES, lambda b: b + b"?", f"too long: expected {TRAIN_BYTES} bytes, found {TRAIN_BYTES + 1} bytes"),
        (TRAIN_IMAGES, lambda b: b[:7], "expected a header of 16 bytes, found 7 bytes"),
        (TEST_LABELS, lambda b: b"", "expected a header of 8 bytes, found 0 bytes"),
        (TEST_IMAGES, lambda b: idx_bytes(np.zeros(NUM_TEST, np.uint8)), "magic number 2049, expected 2051"),
        (TRAIN_LABELS, lambda b: idx_bytes(np.zeros((9, 6, 6), np.uint8)), "magic number 2051, expected 2049"),
        (TEST_LABELS, lambda b: idx_bytes(np.zeros(39, np.uint8)), f"39 labels, but .*{TEST_IMAGES} has 40 images"),
        (TEST_IMAGES, lambda b: idx_bytes(np.zeros((NUM_TEST, 6, 5), np.uint8)), "images of 6x5, but .* has 6x6"),
        (TEST_IMAGES, lambda b: idx_bytes(np.zeros((0, 6, 6), np.uint8)), "is empty, its shape is 0x6x6"),
        (
            TRAIN_LABELS,
            lambda b: idx_bytes(np.arange(NUM_TRAIN, dtype=np.uint8)),
            "120 labels of 120 classes cannot be split",
        ),
        (ZIPPED, lambda b: b, "not a gzip file though named .gz"),
        (ZIPPED, lambda b: gzip.compress(b)[:2000], rf"truncated: expected {TRAIN_BYTES} bytes, found \d+ bytes unzip"),
        (
            ZIPPED,
            lambda b: gzip.compress(b"\0\0\x08\3" + bytes(range(1, 13))),
            r"truncated: expected \d+ bytes, found too few",
        ),
        (ZIPPED, lambda b: gzip.compress(b)[:-8], "truncated: expected a gzip checksum at the end"),
        (ZIPPED, lambda b: gzip.compress(b)[:-8] + bytes(8), "damaged gzip file"),
    ],
)
def test_a_wrong_file_is_reported_in_one_line_that_names_it(tmp_path: Path, name: str, spoil, expected: str) -> None:
    root = write_files(tmp_path / "root", small_arrays())
    plain = root / name.removesuffix(".gz")
    content = spoil(plain.read_bytes())
    plain.unlink()
    (root / name).write_bytes(content)
    with pytest.raises(ValueError, match=expected) as error:
        load(root)
    assert one_line(error).startswith(f"{root / name}: ")


# Missing files and downloads


def test_missing_files_without_network_are_reported_in_one_line_and_nothing_is_created(
    tmp_path: Path, dead_url: str
) -> None:
    root = tmp_path / "new" / "mnist"
    source = Source((dead_url, f"{dead_url}second/"), dict.fromkeys(FILES, "0" * 64), "gz")
    with pytest.raises(ValueError, match="download failed") as error:
        from_idx_files("small", source, str(root), options())
    message = one_line(error)
    assert message.startswith(f"data.root={root}: ")
    assert all(name in message for name in FILES)
    assert f"{dead_url}{TRAIN_IMAGES}.gz: " in message
    assert f"{dead_url}second/{TRAIN_IMAGES}.gz: " in message
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_not_a_folder_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file") as error:
        load(tmp_path / "file")
    assert one_line(error).startswith(f"data.root={tmp_path / 'file'}: ")
    with pytest.raises(ValueError, match=r"^data\.root=null: must be the folder"):
        mnist(None, **options())


@pytest.mark.parametrize("served_as", ["gz", "unzipped"])
def test_a_download_is_checked_kept_and_not_repeated(
    tmp_path: Path, served: tuple[Path, str], dead_url: str, served_as
) -> None:
    folder, url = served
    source = source_of(folder, dead_url, f"{url}not-here/", url)
    if served_as == "unzipped":
        sums = {name: hashlib.sha256(idx_bytes(array)).hexdigest() for name, array in small_arrays().items()}
        source = Source(source.mirrors, sums, "unzipped")
    root = tmp_path / "deep" / "root"
    downloaded = from_idx_files("small", source, str(root), options())
    assert sorted(os.listdir(root)) == sorted(f"{name}.gz" for name in FILES)
    offline = replace(source, mirrors=(dead_url,))
    again = from_idx_files("small", offline, str(root), options())
    assert downloaded.fingerprint == again.fingerprint == small(tmp_path).fingerprint


def test_only_what_is_missing_is_downloaded(tmp_path: Path, served: tuple[Path, str]) -> None:
    folder, url = served
    arrays = small_arrays()
    arrays[TRAIN_IMAGES] = 255 - arrays[TRAIN_IMAGES]  # the user's variant, which matches no sum
    del arrays[TEST_LABELS]
    root = write_files(tmp_path / "root", arrays)
    from_idx_files("small", source_of(folder, url), str(root), options())
    assert sorted(os.listdir(root)) == sorted([TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, f"{TEST_LABELS}.gz"])
    assert (root / TRAIN_IMAGES).read_bytes() == idx_bytes(arrays[TRAIN_IMAGES])


@pytest.mark.parametrize(
    "content",
    [b"<html>please log in</html>", gzip.compress(b"other"), gzip.compress(b"?")[:-3]],
    ids=["a page", "another file", "cut off"],
)
@pytest.mark.parametrize("served_as", ["gz", "unzipped"])
def test_a_download_with_the_wrong_sum_leaves_nothing(
    tmp_path: Path, served: tuple[Path, str], content: bytes, served_as
) -> None:
    folder, url = served
    source = replace(source_of(folder, url), served_as=served_as)
    (folder / f"{TRAIN_IMAGES}.gz").write_bytes(content)
    with pytest.raises(ValueError, match=f"{TRAIN_IMAGES}.gz: sha256 [0-9a-f]{{12}}.*, expected ") as error:
        from_idx_files("small", source, str(tmp_path / "root"), options())
    assert one_line(error).startswith(f"data.root={tmp_path / 'root'}: ")
    assert os.listdir(tmp_path) == ["served"]


# Files that are larger than they say, or than memory


def peak_of(call: Callable[[], object]) -> int:
    """The most bytes that Python and NumPy held at once during `call`, which must raise ValueError."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=TRAIN_IMAGES):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("num_images", [0, NUM_TRAIN, 2**31, 2**32 - 1])
def test_a_gzip_bomb_is_refused_without_being_unzipped(tmp_path: Path, num_images: int) -> None:
    """200 MB of zeros after a header that declares nothing, as many images as the others, or 77 GB of them."""
    root = write_files(tmp_path / "root", small_arrays(), zipped=True)
    header = struct.pack(">4I", 0x803, num_images, SIZE, SIZE) if num_images else b""
    with gzip.open(root / f"{TRAIN_IMAGES}.gz", "wb", compresslevel=1) as file:
        file.write(header)
        for _ in range(200):
            file.write(bytes(1_000_000))
    assert peak_of(lambda: load(root)) < 5_000_000


def test_more_images_than_a_quarter_of_the_memory_are_refused(tmp_path: Path) -> None:
    root = write_files(tmp_path / "root", small_arrays())
    num_images = int(memory_bytes() / 4 / SIZE**2) + 1
    with (root / TRAIN_IMAGES).open("wb") as file:  # a file with a hole takes no room on the disk
        file.write(struct.pack(">4I", 0x803, num_images, SIZE, SIZE))
        file.truncate(16 + num_images * SIZE**2)
    line = f"^{root / TRAIN_IMAGES}: its header declares {num_images}x6x6 bytes, .* a quarter"
    with pytest.raises(ValueError, match=line):
        load(root)


def test_a_download_does_not_unzip_without_end(tmp_path: Path, served: tuple[Path, str], monkeypatch) -> None:
    monkeypatch.setattr("vae_sweeps.data.downloads._MAX_DOWNLOAD_BYTES", 10_000_000)
    folder, url = served
    source = replace(source_of(folder, url), served_as="unzipped")
    (folder / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(bytes(100_000_000), 1))
    line = f"{TRAIN_IMAGES}.gz: more than 0.01 GB unzipped, more than any such file has"
    with pytest.raises(ValueError, match=line):
        from_idx_files("small", source, str(tmp_path / "root"), options())
    assert not (tmp_path / "root").exists()
