"""Run folders and sweep folders: the authority on what was done. Every file is written aside, flushed and renamed."""

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import OmegaConfDumper

from vae_sweeps import claims
from vae_sweeps.config import to_container
from vae_sweeps.schema import Point

log = logging.getLogger(__name__)

CONFIG, ROWS, RESULT, FAILURE = "config.yaml", "metrics.jsonl", "result.json", "failure.txt"
# The files that training makes; overwriting a run removes them.
_MADE = (ROWS, RESULT, FAILURE, "log.txt", "checkpoint.pt", "checkpoint.prev.pt", "checkpoint.pt.tmp")


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace `path` in one step: readers and a kill see the old file or the new one."""
    data = content.encode() if isinstance(content, str) else content
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _json_default(value: Any) -> Any:
    raise TypeError(f"not a plain value: {value!r}")


def to_json(content: Mapping[str, Any], *, indent: int | None = None) -> str:
    """JSON with NaN and infinities as null: standard JSON has no words for them."""

    def plain(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list | tuple) else value

    return json.dumps(plain(content), indent=indent, default=_json_default)


def runs_folder(output_dir: str | Path) -> Path:
    return Path(output_dir) / "runs"


def sweeps_folder(output_dir: str | Path) -> Path:
    return Path(output_dir) / "sweeps"


def create_run(folder: Path, point: Point, overrides: Iterable[str], code_diff: str = "") -> None:
    """Make the run's folder with its config, which is never written again, and what the code differed in from its
    commit."""
    if (folder / CONFIG).exists():
        return
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    if code_diff:
        write_whole(folder / ".hydra" / "code.diff", code_diff)
    write_whole(folder / ".hydra" / "overrides.yaml", _to_yaml(list(overrides)))
    write_whole(folder / CONFIG, _to_yaml(to_container(point)))


class _Dumper(yaml.CSafeDumper):
    """OmegaConf's YAML, which quotes texts that it would read as numbers, ten times as fast."""


_Dumper.add_representer(str, OmegaConfDumper.str_representer)  # type: ignore[arg-type]


def _to_yaml(content: Any) -> str:
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)


def clear_run(folder: Path, *, keep_training: bool = False) -> None:
    """Remove what training made, or only the word that it failed; the config stays."""
    if keep_training:
        (folder / FAILURE).unlink(missing_ok=True)
        return
    for name in _MADE:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "pictures", ignore_errors=True)


def append_row(folder: Path, row: Mapping[str, Any]) -> None:
    """Add one line to metrics.jsonl."""
    with (folder / ROWS).open("a") as file:
        file.write(to_json(row) + "\n")


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl."""
    return read_lines(folder / ROWS)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl; a line cut short by a kill is left out, and a file that is not there is empty."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
    return found


def drop_rows_after(folder: Path, step: int) -> None:
    """Forget the rows after `step`: training goes on from there and logs them again."""
    rows = read_rows(folder)
    if rows:
        write_whole(folder / ROWS, "".join(to_json(row) + "\n" for row in rows if row["step"] <= step))


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Record how the run ended; from now on it is done (or diverged)."""
    write_whole(folder / RESULT, to_json(result, indent=2) + "\n")
    (folder / FAILURE).unlink(missing_ok=True)


def read_result(folder: Path) -> dict[str, Any] | None:
    """The run's result, or None if it has none; a corrupt one is named in the log and counts as none."""
    try:
        result = json.loads((folder / RESULT).read_text())
        if not isinstance(result, dict) or "status" not in result:
            raise ValueError("not a result")
        return result
    except FileNotFoundError:
        return None
    except ValueError:
        log.warning("%s: corrupt, counts as not done", folder / RESULT)
        return None


def status(folder: Path, result: Mapping[str, Any] | None) -> str:
    """done, diverged, running, failed, preempted (stopped with a checkpoint, or its process gone) or pending."""
    if result is not None:
        return str(result["status"])
    if claims.is_held(folder):
        return "running"
    if (folder / FAILURE).exists():
        return "failed"
    return "preempted" if (folder / "checkpoint.pt").exists() else "pending"


def write_sweep(output_dir: str | Path, name: str, runs: Iterable[str], swept: Iterable[str]) -> Path:
    """Add `runs` and `swept` keys to the sweep's list of points; returns the sweep's folder."""
    folder = sweeps_folder(output_dir) / name
    folder.mkdir(parents=True, exist_ok=True)
    known = read_sweep(folder) if (folder / "points.json").exists() else {"runs": [], "swept": []}
    content = {
        "sweep": name,
        "swept": list(dict.fromkeys([*known["swept"], *swept])),
        "runs": list(dict.fromkeys([*known["runs"], *runs])),
    }
    write_whole(folder / "points.json", to_json(content, indent=2) + "\n")
    return folder


def read_sweep(folder: Path) -> dict[str, Any]:
    """The sweep's name, swept keys and run folders' names."""
    return json.loads((folder / "points.json").read_text())


def find_sweep(where: str | Path, output_dir: str | Path) -> Path | None:
    """The folder of the sweep that `where` names, or None if it names none."""
    folders = (Path(where), sweeps_folder(output_dir) / where)
    return next((folder for folder in folders if (folder / "points.json").exists()), None)


def all_sweeps(output_dir: str | Path) -> list[Path]:
    """The folders of all sweeps, by name."""
    return sorted(file.parent for file in sweeps_folder(output_dir).glob("*/points.json"))


def known_sweeps(output_dir: str | Path) -> str:
    """The names of all sweeps, for the end of an error line."""
    names = ", ".join(folder.name for folder in all_sweeps(output_dir))
    return f"sweeps in {output_dir}: {names}" if names else f"{output_dir} has no sweeps"


def runs_of_sweep(folder: Path) -> list[Path]:
    """The run folders of a sweep's folder."""
    return [folder.parent.parent / "runs" / run for run in read_sweep(folder)["runs"]]


def has_ended(folder: Path) -> bool:
    """Whether the run has a result or has failed: nothing more will come of it by itself."""
    return (folder / RESULT).exists() or (folder / FAILURE).exists()


def now() -> str:
    """The local time as the files have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def content_hash(paths: Iterable[Path]) -> str:
    """The first 12 hex digits of a sha256 over names and bytes."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def log_launch(sweep_folder: Path, entry: Mapping[str, Any]) -> None:
    """Add one line to the sweep's launch log."""
    with (sweep_folder / "launches.jsonl").open("a") as file:
        file.write(to_json(entry) + "\n")


def folder_name(text: str) -> str:
    """`text` with everything that is awkward in a file's name replaced, and at most 120 characters of it."""
    return re.sub(r"[^A-Za-z0-9._=+-]+", "_", text)[:120].strip("_")
