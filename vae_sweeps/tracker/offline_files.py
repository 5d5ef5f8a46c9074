"""Reads W&B's offline files: those that one attempt at a run left under wandb/offline-run-*."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from wandb.proto import wandb_internal_pb2 as pb

# wandb creates this class at import, so type checkers cannot see it.
_Record: Any = pb.Record  # type: ignore[attr-defined]

_FILE_HEADER = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
_BLOCK_BYTES = 32 * 1024
_PIECE_HEADER = struct.Struct("<IHB")  # checksum, length, kind
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass(frozen=True)
class Segment:
    """One offline folder: an attempt at a run. `steps` are its history rows' `_step`, in the order they were logged."""

    folder: Path
    run_id: str
    entity: str  # "" if it was left to the server
    project: str
    steps: list[int]
    is_whole: bool  # False if the file is cut short, corrupt or names no run: `steps` are those before the damage


def segments_in(folder: Path, run_id: str = "") -> list[Segment]:
    """The segments under folder/wandb, oldest first by the time in their names; only those of `run_id`, if given."""
    found = (path for path in sorted(folder.glob("wandb/offline-run-*")) if path.is_dir())
    return [read_segment(path) for path in found if not run_id or (path / f"run-{run_id}.wandb").exists()]


def read_segment(folder: Path) -> Segment:
    """Read one offline-run-* folder up to the first damage; never raises for a damaged one.

    The file is wandb's transaction log: LevelDB's log format (github.com/google/leveldb, doc/log_format.md) with
    wandb's file header and plain CRC-32, holding protobuf records (wandb.proto.wandb_internal_pb2.Record). A killed
    run's file has no exit record; it is whole if it ends with a record.
    """
    records, is_sound = read_records(folder)
    run = next((record.run for record in records if record.HasField("run")), None)
    # Not from the folder's name: there, a second attempt within one second has -1 after the id.
    named = next((file.stem.removeprefix("run-") for file in folder.glob("run-*.wandb")), "")
    return Segment(
        folder=folder,
        run_id=run.run_id if run else named,
        entity=run.entity if run else "",
        project=run.project if run else "",
        steps=[record.history.step.num for record in records if record.HasField("history")],
        is_whole=is_sound and run is not None,
    )


def read_records(folder: Path) -> tuple[list[Any], bool]:
    """The run and history records of a segment up to any damage, and whether the file is undamaged."""
    records = []
    try:
        (file,) = folder.glob("run-*.wandb")
        for content in _contents(file.read_bytes()):
            record = _Record.FromString(content)
            if record.WhichOneof("record_type") in ("run", "history"):
                records.append(record)
    except (OSError, ValueError, DecodeError):
        return records, False
    return records, True


def _contents(data: bytes) -> Iterator[bytes]:
    """Each record's bytes, joined from its pieces. Raises ValueError if the log is damaged."""
    if not data.startswith(_FILE_HEADER):
        raise ValueError("no file header")
    position, begun = len(_FILE_HEADER), None
    while position < len(data):
        left = _BLOCK_BYTES - position % _BLOCK_BYTES
        if left < _PIECE_HEADER.size:  # no piece fits into the rest of the block
            position += left
            continue
        if position + _PIECE_HEADER.size > len(data):
            raise ValueError("cut short in a header")
        checksum, length, kind = _PIECE_HEADER.unpack_from(data, position)
        position += _PIECE_HEADER.size
        piece = data[position : position + length]
        position += length
        if len(piece) < length or zlib.crc32(piece, zlib.crc32(bytes([kind]))) != checksum:
            raise ValueError("cut short or corrupt")
        if (begun is None) != (kind in (_FULL, _FIRST)) or kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            raise ValueError("pieces out of order")
        begun = (begun or b"") + piece
        if kind in (_FULL, _LAST):
            yield begun
            begun = None
    if begun is not None:
        raise ValueError("cut short between pieces")
