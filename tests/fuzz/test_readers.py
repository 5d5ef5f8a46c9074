"""Damaged files of data, runs and sweeps: a ValueError that names the file, or what its bytes say; never another.

A new reader is one more `Reader` in `READERS`.
"""

import gzip
import hashlib
import json
import math
import shutil
import struct
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import make_point
from tests.fuzz.profile import examples, mutated
from tests.helpers.idx_files import idx_bytes, small_arrays
from tests.helpers.image_files import contents, load_folder, pixels, write
from vae_sweeps.config.identity import run_id
from vae_sweeps.config.point import from_container, to_container
from vae_sweeps.data import faces
from vae_sweeps.data.dsprites_npz import from_npz
from vae_sweeps.data.idx import TRAIN_IMAGES, TRAIN_LABELS, read_idx
from vae_sweeps.runs import row_log, sealed_config
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import read_points
from vae_sweeps.system import cache as system_cache
from vae_sweeps.system import files

MAX_PEAK_BYTES = 20_000_000


@dataclass(frozen=True)
class Reader:
    """A reader to fuzz. `write` makes a folder of valid files, `read` reads it.

    `expected` says what must be returned for a folder with a changed file; it raises ValueError where only an error is
    right. `heals` is whether damage is repaired, so that errors are wrong. Files that match `changed` are changed.
    """

    write: Callable[[Path], object]
    read: Callable[[Path], Any]
    expected: Callable[[Path], Any]
    changed: str = "*"
    heals: bool = False
    num_examples: int = 12


def idx_array(content: bytes, num_dims: int) -> list[Any]:
    """The shape and the bytes, read in the simplest way. Raises ValueError."""
    header = 4 * (1 + num_dims)
    if len(content) < header:
        raise ValueError
    magic, *shape = struct.unpack(f">{1 + num_dims}I", content[:header])
    if magic != 0x800 + num_dims or len(content) != header + math.prod(shape) or not math.prod(shape):
        raise ValueError
    return [shape, content[header:]]


def idx_reader(name: str, num_dims: Any, *, zipped: bool) -> Reader:
    array = small_arrays()[name][:9]
    ending = ".gz" if zipped else ""
    content = gzip.compress(idx_bytes(array), mtime=0) if zipped else idx_bytes(array)

    def read(folder: Path) -> list[Any]:
        found = read_idx(folder / f"{name}{ending}", num_dims)
        return [list(found.shape), found.tobytes()]

    def expected(folder: Path) -> list[Any]:
        content = (folder / f"{name}{ending}").read_bytes()
        try:
            return idx_array(gzip.decompress(content) if zipped else content, num_dims)
        except Exception as error:
            raise ValueError from error

    return Reader(lambda folder: (folder / f"{name}{ending}").write_bytes(content), read, expected, num_examples=60)


def decoded(folder: Path) -> Any:
    """The images of all splits together, since a skipped file changes the splits."""
    return set.union(*contents(load_folder(folder / "images", folder / "cache", size=None)).values())


def images(ending: str) -> Reader:
    names = [f"{i}.{ending}" for i in range(4)]

    def expected(folder: Path) -> Any:
        """What Pillow alone decodes."""
        try:
            found = [Image.open(folder / "images" / name).convert("RGB") for name in names]
        except Exception as error:
            raise ValueError from error
        if any(image.size != (8, 8) for image in found):
            raise ValueError
        return {
            torch.tensor(list(image.tobytes())).view(8, 8, 3).permute(2, 0, 1).byte().numpy().tobytes()
            for image in found
        }

    return Reader(lambda folder: write(folder / "images", names), decoded, expected, "images/*")


def write_decoded(folder: Path) -> None:
    write(folder / "images", [f"{i}.png" for i in range(4)])
    decoded(folder)


ALL_IMAGES = {pixels(i).transpose(2, 0, 1).tobytes() for i in range(4)}

NAMES = [f"{i}.jpg" for i in range(6)]
PARTITION = "".join(f"{name} {i % 3}\n" for i, name in enumerate(NAMES))
ATTRIBUTES = "6\nMale Smiling\n" + "".join(f"{name} {1 - 2 * (i % 2)} -1\n" for i, name in enumerate(NAMES))


def write_lists(folder: Path) -> None:
    (folder / "partition.txt").write_text(PARTITION)
    (folder / "attributes.txt").write_text(ATTRIBUTES)


def read_lists(folder: Path) -> Any:
    names, split = faces._partition(folder / "partition.txt")
    if sorted(names) != NAMES:
        raise ValueError(f"{folder / 'partition.txt'}: other names")  # which the caller looks for among the images
    return dict(zip(names, split.tolist(), strict=True)), faces._attribute(
        folder / "attributes.txt", "Male", names
    ).tolist()


def expected_lists(folder: Path) -> Any:
    """What the lines say."""
    try:
        split = {name: int(number) for name, number in map(str.split, lines_of(folder / "partition.txt"))}
        _, header, *rows = lines_of(folder / "attributes.txt")
        column = 1 + header.split().index("Male")
        values = {row.split()[0]: int(row.split()[column] == "1") for row in rows}
        names = sorted(split, key=lambda name: split[name])
        return split, [values[name] for name in names]
    except (LookupError, UnicodeDecodeError) as error:
        raise ValueError from error


def lines_of(path: Path) -> list[str]:
    return [line for line in path.read_text().split("\n") if line.strip()]


CONTENT = {"weights": {"a": torch.arange(6.0)}, "accuracy": 0.5}


def write_cache(folder: Path) -> None:
    read_cache(folder)


def read_cache(folder: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        found = system_cache.once("kind", {}, lambda: CONTENT)
    return found["weights"]["a"].tolist(), found["accuracy"]


RESULT = {"status": "done", "step": 7, "metrics": {"test/elbo": -101.25, "fid/classifier/prior": 3.5}}
ROWS = [{"step": step, "train/elbo": -100.0 / step} for step in range(1, 5)]
POINTS = {"sweep": "grid", "swept": ["beta"], "runs": ["a-0123456789ab", "b-0123456789ab"]}


def write_run(folder: Path) -> None:
    """A finished run: its config, its rows and its result, which holds the hash of the rows."""
    run = RunFolder(folder / f"mlp-{run_id(make_point(), 'data')}")
    run.path.mkdir()
    run.config.write_text(sealed_config.seal(to_container(make_point()), run.id, "data"))
    rows = "".join(f"{json.dumps(row)}\n" for row in ROWS).encode()
    run.rows.write_bytes(rows)
    extent = {"size": len(rows), "sha256": hashlib.sha256(rows).hexdigest()}
    run.result.write_text(files.seal({"run_id": run.id, **RESULT, "rows": extent}))


def read_run(folder: Path) -> Any:
    (run,) = map(RunFolder, folder.iterdir())
    content, result = run.read_config(), run.unseal_result()
    if not row_log.is_whole(run, result):
        raise ValueError(f"{run.rows}: other rows than the run wrote")
    del result["rows"]
    return content, result, run.read_rows()


def same_json(folder: Path, name: str, content: Any) -> None:
    """Raise ValueError unless the file holds this, but for its checksum and other keys that are about the file."""
    (path,) = folder.rglob(name)
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict) or not content.items() <= found.items():
        raise ValueError


def expected_run(folder: Path) -> Any:
    """What was written; a config may have been changed by hand in keys that are not part of the run id."""
    (run,) = map(RunFolder, folder.iterdir())
    (rows,) = _valid("a finished run")[0].rglob("metrics.jsonl")
    if run.rows.read_bytes() != rows.read_bytes():
        raise ValueError
    same_json(folder, "result.json", RESULT)
    try:
        content = yaml.safe_load(run.config.read_text())
        if run_id(from_container(content), "data") == run.id:
            return content, RESULT, ROWS
    except Exception as error:
        raise ValueError from error
    raise ValueError


def expected_points(folder: Path) -> Any:
    same_json(folder, "*.json", POINTS)
    return POINTS


DSPRITES_SIZES = (3, 2, 2, 2, 3)
DSPRITES = np.random.default_rng(0).integers(0, 2, (72, 64, 64), np.uint8)


def write_dsprites(folder: Path) -> None:
    classes = np.stack(np.unravel_index(np.arange(72), (1, *DSPRITES_SIZES)), 1)
    np.savez_compressed(folder / "dsprites.npz", imgs=DSPRITES, latents_classes=classes)


def read_dsprites(folder: Path) -> bytes:
    return b"".join(block.tobytes() for block in from_npz(folder / "dsprites.npz", DSPRITES_SIZES).blocks())


READERS = {
    "IDX images": idx_reader(TRAIN_IMAGES, 3, zipped=False),
    "IDX labels": idx_reader(TRAIN_LABELS, 1, zipped=False),
    "zipped IDX images": idx_reader(TRAIN_IMAGES, 3, zipped=True),
    "zipped IDX labels": idx_reader(TRAIN_LABELS, 1, zipped=True),
    "PNG files": images("png"),
    "JPEG files": images("jpg"),
    "WebP files": images("webp"),
    "decoded images": Reader(write_decoded, decoded, lambda _: ALL_IMAGES, "cache/*/*", heals=True),
    "dSprites": Reader(write_dsprites, read_dsprites, lambda _: (DSPRITES * 255).tobytes(), num_examples=40),
    "CelebA's lists": Reader(write_lists, read_lists, expected_lists, num_examples=40),
    "a finished run": Reader(write_run, read_run, expected_run, "*/*", num_examples=40),
    "a sweep's points": Reader(
        lambda folder: (folder / "1.json").write_text(files.seal(POINTS)),
        lambda folder: read_points(folder / "1.json"),
        expected_points,
        num_examples=40,
    ),
    "the cache": Reader(write_cache, read_cache, lambda _: ([0, 1, 2, 3, 4, 5], 0.5), "*/*.bin", heals=True),
}


@cache
def _valid(kind: str) -> tuple[Path, tuple[Path, ...], tempfile.TemporaryDirectory[str]]:
    """A folder of valid files, which is copied for each example, and those of them that are changed."""
    folder = tempfile.TemporaryDirectory(prefix="vae-sweeps-fuzz-")
    path = Path(folder.name)
    READERS[kind].write(path)
    return path, tuple(sorted(file.relative_to(path) for file in path.glob(READERS[kind].changed))), folder


@pytest.mark.parametrize("kind", READERS)
def test_a_damaged_file_is_named_or_read_as_it_is(kind: str) -> None:
    reader, (valid, files, _) = READERS[kind], _valid(kind)

    @examples(reader.num_examples)
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory(prefix="vae-sweeps-fuzz-") as place:
            folder = Path(place) / "files"
            shutil.copytree(valid, folder)
            file = data.draw(st.sampled_from(files))
            (folder / file).write_bytes(data.draw(mutated((valid / file).read_bytes())))
            check(reader, folder, folder / file)

    fuzz()


def check(reader: Reader, folder: Path, changed: Path) -> None:
    """The property: the right value, or where that is allowed, an error in one line that names the file."""
    tracemalloc.start()
    try:
        found, error = reader.read(folder), None
    except ValueError as raised:
        found, error = None, str(raised)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MAX_PEAK_BYTES
    try:
        expected, is_valid = reader.expected(folder), True
    except ValueError:
        expected, is_valid = None, False
    if error is None:
        assert is_valid, "damage was read without a word"
        assert found == expected
    else:
        assert not reader.heals
        assert changed.name in error
        assert "\n" not in error
