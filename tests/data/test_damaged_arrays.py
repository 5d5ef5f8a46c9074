"""Decoded pixels that have changed on the disk are never used: they are noticed, named and decoded again."""

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.image_files import contents, load_folder, write
from vae_sweeps.data.dataset import Dataset

NAMES = [f"{i}.png" for i in range(20)]


@pytest.fixture(autouse=True)
def _log_is_captured(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("vae_sweeps"), "propagate", True)
    caplog.set_level(logging.INFO, "vae_sweeps")


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def flip(path: Path, offset: int) -> None:
    """Flip a bit, as a disk would: size and times stay."""
    stat = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 4]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def one_digit(path: Path) -> None:
    """Change a digit of the shape in the index, so that the number of bytes is the same."""
    index = json.loads(path.read_text())
    index["shape"] = [20, 3, 4, 16]
    path.write_text(json.dumps(index))


@pytest.fixture
def copied(tmp_path: Path) -> tuple[Path, Path, Dataset]:
    """Images, a copy of their cache that this process has not read yet, and the data set."""
    root = write(tmp_path / "images", NAMES)
    dataset = load_folder(root, tmp_path / "first", size=None)
    shutil.copytree(tmp_path / "first", tmp_path / "cache")
    (folder,) = (tmp_path / "cache").glob("images-????????????")
    return root, folder, dataset


def not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\0" * 9)


DAMAGE: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a bit": ("images.u8", lambda path: flip(path, 1234), "the pixels' sha256 is not the one in index.json"),
    "the last byte": ("images.u8", lambda path: flip(path, 20 * 192 - 1), "the pixels' sha256 is not the one in"),
    "cut": ("images.u8", lambda path: os.truncate(path, 1000), "1,000 bytes instead of 3,840"),
    "half an index": ("index.json", lambda path: os.truncate(path, 20), "not JSON in UTF-8"),
    "no text": ("index.json", not_text, "not JSON in UTF-8"),
    "another shape": ("index.json", one_digit, "its content does not match its checksum"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_array_is_named_and_decoded_again(copied, caplog, damage: str) -> None:
    root, folder, dataset = copied
    name, spoil, reason = DAMAGE[damage]
    spoil(folder / name)
    caplog.clear()
    again = load_folder(root, folder.parent, size=None)
    (warning,) = warnings_in(caplog)
    assert warning.startswith(f"{folder / name}: damaged: {reason}")
    assert warning.endswith("; making the images again")
    assert again.fingerprint == dataset.fingerprint
    assert contents(again) == contents(dataset)
    assert sorted(path.name for path in folder.iterdir()) == ["images.u8", "index.json"]
    caplog.clear()
    assert load_folder(root, folder.parent, size=None).fingerprint == dataset.fingerprint
    assert not caplog.records


@pytest.mark.parametrize("name", ["images.u8", "index.json"])
def test_an_array_without_one_of_its_files_is_decoded_again(copied, caplog, name: str) -> None:
    root, folder, dataset = copied
    (folder / name).unlink()
    assert load_folder(root, folder.parent, size=None).fingerprint == dataset.fingerprint
    assert not warnings_in(caplog)


def test_a_damaged_chunk_of_an_unfinished_array_is_decoded_again(tmp_path: Path, caplog) -> None:
    """Images of 3 MB: two of them are a chunk. One of six cannot be decoded at first."""
    root, cache = write(tmp_path / "images", NAMES[:6]), tmp_path / "cache"
    expected = load_folder(root, tmp_path / "undisturbed", size=1024)
    late = root / NAMES[5]
    good, stat = late.read_bytes(), late.stat()
    late.write_bytes(bytes(len(good)))
    os.utime(late, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ValueError, match="cannot be used"):
        load_folder(root, cache, size=1024)
    (folder,) = cache.glob("images-????????????")
    starts = [json.loads(line)["start"] for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert len(starts) == 2
    flip(folder / "decoding.u8", starts[0] * 3 * 1024**2 + 77)
    late.write_bytes(good)
    os.utime(late, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    caplog.clear()
    resumed = load_folder(root, cache, size=1024)
    assert warnings_in(caplog) == [f"{folder / 'decoding.u8'}: damaged in 1 finished chunk; decoding again"]
    assert f"{root}: decoding 4 of 6 images into the cache" in caplog.messages
    assert resumed.fingerprint == expected.fingerprint
    assert contents(resumed) == contents(expected)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can mount a file system")
def test_a_damaged_array_in_a_cache_that_cannot_be_written_is_refused(copied, tmp_path: Path, refused) -> None:
    root, folder, _ = copied
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        shutil.copytree(folder, small / folder.name)
        array = small / folder.name / "images.u8"
        flip(array, 5)
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        keys = ["data=image_folder", f"data.root={root}", f"data.cache={small}", "data.size=null"]
        line = refused(*keys)
        assert line == (
            f"{array}: damaged: the pixels' sha256 is not the one in index.json, and the images cannot be made "
            f"again there (Read-only file system); make {small} writable, or set data.cache to another folder"
        )
    finally:
        subprocess.run(["umount", str(small)], check=True)
