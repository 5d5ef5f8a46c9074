"""Arrow folders as `save_to_disk` writes them: pixels, labels, splits and errors."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.conftest import make_point
from vae_sweeps.data.dataset import SPLITS, Dataset
from vae_sweeps.data.load import load_dataset

GREY = np.random.default_rng(0).integers(0, 256, (40, 4, 4), np.uint8)


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def png(image: np.ndarray) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def write_split(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Two Arrow files and their list, as `Dataset.save_to_disk(folder, num_shards=2)` writes them."""
    folder.mkdir(parents=True)
    names = [f"data-0000{i}-of-00002.arrow" for i in range(2)]
    half = len(rows) // 2
    for name, part in zip(names, (rows[:half], rows[half:]), strict=True):
        table = pa.Table.from_pylist(part)
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return folder


def rows_of(images: np.ndarray) -> list[dict[str, Any]]:
    return [{"image": png(image), "label": i % 5} for i, image in enumerate(images)]


def write_dict(folder: Path, **splits: np.ndarray) -> Path:
    for name, images in splits.items():
        write_split(folder / name, rows_of(images))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder


def load(path: Path | str, *overrides: str) -> Dataset:
    return load_dataset(make_point("data=huggingface", f"data.path={path}", *overrides).data)


def test_each_image_keeps_its_pixels_and_label(tmp_path: Path) -> None:
    dataset = load(write_split(tmp_path / "one", rows_of(GREY)))
    assert [dataset.num_images(split) for split in SPLITS] == [32, 4, 4]
    expected = {image.tobytes(): i % 5 for i, image in enumerate(GREY)}
    assert dataset.labels is not None
    for split in SPLITS:
        for image, label in zip(dataset.images[split], dataset.labels[split], strict=True):
            assert expected.pop(image.numpy().tobytes()) == label
    assert not expected


def test_splits_are_known_by_their_names(tmp_path: Path) -> None:
    dataset = load(write_dict(tmp_path / "d", train=GREY[:20], validation=GREY[20:30], test=GREY[30:]))
    assert [dataset.num_images(split) for split in SPLITS] == [20, 10, 10]
    assert np.array_equal(dataset.images["val"][:, 0].numpy(), GREY[20:30])


def test_lists_of_numbers_are_images(tmp_path: Path) -> None:
    rows = [{"pixels": image.tolist()} for image in GREY]
    dataset = load(write_split(tmp_path / "x", rows), "data.image=pixels", "data.label=null")
    assert dataset.labels is None
    found = {image.numpy().tobytes() for split in SPLITS for image in dataset.images[split]}
    assert found == {image.tobytes() for image in GREY}


def test_a_folder_that_has_changed_is_read_again(tmp_path: Path) -> None:
    first = load(write_split(tmp_path / "x", rows_of(GREY))).fingerprint
    write_split(tmp_path / "y", rows_of(GREY))
    assert load(tmp_path / "y").fingerprint == first
    write_split(tmp_path / "z", rows_of(255 - GREY))
    for file in (tmp_path / "z").iterdir():
        (tmp_path / "y" / file.name).write_bytes(file.read_bytes())
    assert load(tmp_path / "y", "data.seed=1").fingerprint != first


def test_what_cannot_be_read_is_one_line(tmp_path: Path, refused) -> None:
    write_dict(tmp_path / "two", train=GREY[:20], val=GREY[20:30], validation=GREY[30:])
    write_dict(tmp_path / "none", test=GREY)
    write_split(tmp_path / "sizes", [*rows_of(GREY[:4]), {"image": png(GREY[0, :3]), "label": 1}])
    write_split(tmp_path / "columns", [{"picture": png(GREY[0]), "label": 1}] * 4)
    write_split(tmp_path / "outside", rows_of(GREY))
    (tmp_path / "outside" / "state.json").write_text('{"_data_files": [{"filename": "../two/x.arrow"}]}')
    (tmp_path / "empty").mkdir()
    for name, said in {
        "two": "has the splits val and validation; must have one of them, for val",
        "none": "has the splits test; must have train",
        "sizes": "item 4 is uint8 of [3, 4], and item 0 uint8 of [4, 4]",
        "columns": "has the columns picture, label; set data.image to one of them",
        "outside": "state.json names files of other folders",
        "empty": "cannot be read as a folder that save_to_disk has written",
    }.items():
        line = refused("data=huggingface", f"data.path={tmp_path / name}")
        assert said in line, line


def test_a_name_on_the_hub_needs_the_package(refused) -> None:
    try:
        import datasets  # noqa: F401
    except ImportError:
        line = refused("data=huggingface", "data.path=owner/name")
        assert line.endswith("needs the package datasets: pip install 'vae-sweeps[huggingface]'")
    else:
        pytest.skip("the package datasets is installed")


def test_what_datasets_writes_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(5)})
    columns = {"image": [Image.fromarray(image) for image in GREY], "label": [i % 5 for i in range(40)]}
    whole = datasets.Dataset.from_dict(columns, features=features)
    whole.shuffle(seed=0).train_test_split(0.25, seed=0).save_to_disk(str(tmp_path / "d"))
    dataset = load(tmp_path / "d")
    assert [dataset.num_images(split) for split in SPLITS] == [27, 3, 10]
    expected = {image.tobytes(): i % 5 for i, image in enumerate(GREY)}
    assert dataset.labels is not None
    for split in SPLITS:
        for image, label in zip(dataset.images[split], dataset.labels[split], strict=True):
            assert expected.pop(image.numpy().tobytes()) == label
