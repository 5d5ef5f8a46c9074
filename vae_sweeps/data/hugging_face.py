"""Data sets of Hugging Face: an Arrow folder that `save_to_disk` has written, or a name on the hub."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from PIL import Image

from vae_sweeps.data.arrays import OF_SPLIT, ArrayOptions, as_images, as_labels, dataset_of
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.data.items import read_items, stamps
from vae_sweeps.system import cache


def huggingface(
    path: str | None,
    name: str | None,
    revision: str | None,
    image: str,
    label: str | None,
    channels: str,
    **options: Unpack[ArrayOptions],
) -> Dataset:
    """The images in the column `image`, and labels in the column `label` (null: none), read once into the cache.

    `path` is a folder, which pyarrow reads, or a name on the hub with a configuration `name` and a `revision`, which
    needs the package datasets. Splits are train, val (or valid, validation) and test. Raises ValueError if there is no
    such data set, column or image.
    """
    if path is None:
        raise ValueError("data.path=null: must be a folder written by save_to_disk, or a name on the hub")
    where, folder = f"data.path={path}", Path(path).expanduser()
    is_local = folder.exists()
    if is_local and (name is not None or revision is not None):
        raise ValueError(f"{where}: is a folder; data.name and data.revision must be null, since they are of the hub")
    tables = _of_folder(where, folder) if is_local else _of_hub(where, path, name, revision)
    splits = {}
    for split, (key, rows) in _by_split(where, tables).items():
        recipe = {"rows": key, "image": image, "label": label, "channels": channels}
        columns = _Rows(f"{where}: {split}", rows, image, label)
        read = cache.once("dataset", recipe, lambda columns=columns: read_items(columns.where, columns, channels))
        images = as_images(
            read["images"].numpy(), "first" if read["is_channels_first"] else channels, f"{where}: {split}"
        )
        splits[split] = (images, as_labels(read["labels"].numpy(), where) if "labels" in read else None)
    return dataset_of(f"huggingface {folder.name}", splits, where, options)


class _Rows:
    """The rows of a table as (image, label)."""

    def __init__(self, where: str, rows: Sequence[Mapping[str, Any]], image: str, label: str | None) -> None:
        self.where, self.rows, self.image, self.label = where, rows, image, label

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        row = self.rows[i]
        for key, column in (("image", self.image), ("label", self.label)):
            if column is not None and column not in row:
                raise ValueError(f"has the columns {', '.join(row)}; set data.{key} to one of them")
        return _decoded(row[self.image]), None if self.label is None else row[self.label]


def _decoded(value: Any) -> Any:
    """The pixels of a cell: of an encoded file, of nested lists, or as they are."""
    if isinstance(value, Mapping) and "bytes" in value:
        if value["bytes"] is None:
            raise ValueError("its file is not in the table; write it with embed_external_files=True")
        with Image.open(io.BytesIO(value["bytes"]), formats=("JPEG", "PNG", "WEBP")) as opened:
            opened.load()
            return opened
    return np.asarray(value, np.uint8) if isinstance(value, list) and _are_bytes(value) else value


def _are_bytes(value: list[Any]) -> bool:
    array = np.asarray(value)
    return np.issubdtype(array.dtype, np.integer) and array.size > 0 and array.min() >= 0 and array.max() <= 255


Tables = dict[str, tuple[Any, Any]]  # by the name of the split: what tells its content from others', and its rows


class _ArrowFiles:
    """The rows of the Arrow files of a split, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        import pyarrow as pa

        names = [file["filename"] for file in json.loads((folder / "state.json").read_text())["_data_files"]]
        if any(Path(name).name != name for name in names):
            raise ValueError("state.json names files of other folders")
        self._table = pa.concat_tables(
            [pa.ipc.open_stream(pa.memory_map(str(folder / name))).read_all() for name in names]
        )

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, i: int) -> dict[str, Any]:
        (row,) = self._table.slice(i, 1).to_pylist()
        return row


def _of_folder(where: str, folder: Path) -> Tables:
    try:
        listed = folder / "dataset_dict.json"
        names = json.loads(listed.read_text())["splits"] if listed.is_file() else None
        parts = {"train": folder} if names is None else {name: folder / name for name in names}
        return {name: (stamps(str(part)), _ArrowFiles(part)) for name, part in parts.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{where}: cannot be read as a folder that save_to_disk has written: {reason}") from error


def _of_hub(where: str, path: str, name: str | None, revision: str | None) -> Tables:
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            f"{where}: is no folder here, and a name on the hub needs the package datasets: "
            "pip install 'vae-sweeps[huggingface]'"
        ) from error
    try:
        found = datasets.load_dataset(path, name, revision=revision)
    except Exception as error:  # of many libraries
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{where}: cannot be loaded from the hub: {type(error).__name__}: {reason}") from error
    return {str(split): ([path, name, str(split), table._fingerprint], table) for split, table in found.items()}


def _by_split(where: str, tables: Tables) -> Tables:
    """The tables under our names of the splits; train may be the only one."""
    found = dict(_named(where, tables))
    if "train" not in found:
        raise ValueError(f"{where}: has the splits {', '.join(tables) or 'none'}; must have train")
    return found


def _named(where: str, tables: Tables) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for split, words in OF_SPLIT.items():
        names = [word for word in words if word in tables]
        if len(names) > 1:
            raise ValueError(f"{where}: has the splits {' and '.join(names)}; must have one of them, for {split}")
        if names:
            yield split, tables[names[0]]
