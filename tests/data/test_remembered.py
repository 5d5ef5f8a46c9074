"""What is remembered of data is what loading it gives, and is forgotten when a file changes."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import make_point
from vae_sweeps.config import trust
from vae_sweeps.data import load, remembered
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.remembered import recall
from vae_sweeps.system import cache

GREY = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The config of an .npy file, in an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.save(tmp_path / "x.npy", GREY)
    return dict(make_point("data=numpy", f"data.path={tmp_path / 'x.npy'}").data)


def loaded(data: dict[str, object]) -> Dataset:
    """The data set as a new process loads it."""
    load._cached_dataset.cache_clear()
    return load.load_dataset(data)


def test_what_is_remembered_is_what_was_loaded(data: dict[str, object]) -> None:
    assert recall(data) is None
    dataset = loaded(data)
    known = recall(data)
    assert known is not None
    assert (known.fingerprint, known.description) == (dataset.fingerprint, dataset.describe())


def test_the_built_in_digits_are_remembered_after_they_were_first_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = dict(make_point().data)
    dataset = loaded(data)
    known = recall(data)
    assert known is not None
    assert known.fingerprint == dataset.fingerprint


def test_sprites_which_are_drawn_are_remembered_without_files(data: dict[str, object]) -> None:
    sprites = dict(make_point("data=sprites", "data.num_images=5000").data)
    dataset = loaded(sprites)
    known = recall(sprites)
    assert dataset.files == ()
    assert known is not None
    assert known.fingerprint == dataset.fingerprint


def _other_pixel(file: Path) -> None:
    """Change one byte, and nothing else: not even the time of the last change."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(file: Path) -> None:
    shutil.copy2(file, file.with_suffix(".copy"))
    os.replace(file.with_suffix(".copy"), file)


@pytest.mark.parametrize("change", [_other_pixel, _replace, Path.unlink, Path.touch])
def test_data_whose_file_has_changed_is_not_remembered(
    data: dict[str, object], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    loaded(data)
    change(tmp_path / "x.npy")
    assert recall(data) is None


def test_another_key_or_another_folder_is_other_data(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(data)
    assert recall(data | {"val_share": 0.2}) is None
    monkeypatch.chdir(tmp_path)
    loaded(data | {"path": "x.npy"})
    assert recall(data | {"path": "x.npy"}) is not None
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert recall(data | {"path": "x.npy"}) is None


def test_nothing_is_remembered_after_the_code_that_reads_data_has_changed(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code.py"
    code.write_text("1\n")
    monkeypatch.setattr(remembered, "_CODE", [code])
    loaded(data)
    assert recall(data) is not None
    code.write_text("2\n")
    assert recall(data) is None


def test_a_damaged_memory_is_not_used_and_is_written_again(data: dict[str, object]) -> None:
    loaded(data)
    (memory,) = cache.folder().glob("fingerprint-*")
    memory.write_bytes(memory.read_bytes().replace(b'"fingerprint": "', b'"fingerprint": "0'))
    assert recall(data) is None
    loaded(data)
    assert recall(data) is not None


def test_a_data_set_of_the_users_own_is_not_remembered(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what their function reads, even if it passes on stamps of files."""
    module = "from vae_sweeps.data import Dataset, numpy\n\ndef of_file(**keys):\n    return numpy(**keys)\n"
    (tmp_path / "own_files.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    own = data | {"_target_": "own_files.of_file"}
    with trust.allowing(frozenset({"own_files.of_file"})):
        assert loaded(own).fingerprint == loaded(data).fingerprint
    assert recall(own) is None
