"""Checkpoints of a point's training; the previous one is kept in case the newest is damaged.

The tensors are those of a VAE of one model, so a checkpoint does not depend on the pack that wrote it.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from vae_sweeps.runs.row_log import Extent
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system.files import DamagedError
from vae_sweeps.system.logs import first_line, warn_once


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to resume training after `step` steps; noise and batches are functions of the step.

    `model` holds parameters and buffers by name, `moments` what the optimiser keeps, by its name there (Adam's are
    exp_avg and exp_avg_sq) and the parameter's.
    `trace` [n,3] holds, for each step since the last logged row, the batch's sums of log_px and kl, and the loss.
    `time_s` is the point's share of the training time so far. `image_shape` is (C,H,W), so that the model can be
    rebuilt without the data. `rows` describes the rows up to `step`.
    """

    step: int
    model: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]]
    trace: Tensor
    time_s: float
    image_shape: tuple[int, int, int]
    rows: Extent = field(default_factory=Extent)


def save(run: RunFolder, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` into the run's folder; a kill at any moment leaves an intact one behind.

    It is bound to the run id, and has a checksum of its content.
    """
    content = vars(checkpoint) | {"rows": asdict(checkpoint.rows), "run_id": run.bound_id()}
    with run.new_file() as prepared:
        _write(content | {"sha256": _sum_of(content)}, prepared)
        prepared.flush()
        os.fsync(prepared.fileno())
    if run.checkpoint.exists():
        run.keep(run.checkpoint, run.previous_checkpoint)
    run.move(Path(prepared.name), run.checkpoint)


def _write(content: Mapping[str, Any], file: BinaryIO) -> None:
    """Write `content` as torch does. If the file cannot be written, raises its error."""
    writer = _Writer(file)
    try:
        torch.save(content, writer)  # type: ignore[arg-type]  # it calls no other method
    except RuntimeError:
        if writer.error is not None:
            raise writer.error from None
        raise


class _Writer:
    """A file that remembers its first error, for which torch raises a RuntimeError that gives no reason."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: Exception | None = None

    def write(self, data: bytes | memoryview) -> int:
        try:
            return self._file.write(data)
        except Exception as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._file.flush()


def _sum_of(content: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()

    def add(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                add(f"{name}.{key}", inner)
        elif isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
            if value.numel():
                digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        else:
            digest.update(f"{name} {value!r}\0".encode())

    add("", {key: content[key] for key in sorted(content) if key != "sha256"})
    return digest.hexdigest()


_NAMES = {f.name for f in fields(Checkpoint)} | {"run_id", "sha256"}


def read(path: Path, run_id: str) -> Checkpoint:
    """Read a checkpoint. Raises DamagedError, and FileNotFoundError if there is none."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or set(content) != _NAMES:
            raise ValueError("it is not a checkpoint of this version")
        if content.pop("sha256") != _sum_of(content):
            raise ValueError("its content does not match its checksum")
        if content.pop("run_id") != run_id:
            raise ValueError("it belongs to another run")
        content["rows"] = Extent(**content["rows"])
        return Checkpoint(**content)
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # on arbitrary bytes, torch's reader fails in arbitrary ways, such as an IndexError
        reason = str(error) if type(error) is ValueError else first_line(error)
        raise DamagedError(f"{path}: damaged checkpoint, not used: {reason}") from error


def step_of(run: RunFolder) -> int:
    """The step of the newest checkpoint, 0 without one. Reads no tensors, and does not check what it reads."""
    try:
        return int(torch.load(run.checkpoint, map_location="cpu", weights_only=True, mmap=True)["step"])
    except Exception:  # training will find out what is wrong with it, and say so
        return 0


def available(run: RunFolder) -> list[Checkpoint]:
    """The run's intact checkpoints, newest first: none, one or two. Damaged ones are reported in the log."""
    found = []
    for path in (run.checkpoint, run.previous_checkpoint):
        try:
            found.append(read(path, run.bound_id()))
        except FileNotFoundError:
            continue
        except DamagedError as error:
            warn_once(str(error))
    return found


def common_step(choices: Sequence[Sequence[Checkpoint]]) -> int | None:
    """The latest step for which every point has a checkpoint (0 is the start); None if there is no such step."""
    steps = [{c.step for c in checkpoints} or {0} for checkpoints in choices]
    return max(set.intersection(*steps), default=None)
