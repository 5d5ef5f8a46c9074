"""A run's folder: its files, and how each is read and written."""

import json
import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import OmegaConfDumper

from vae_sweeps.config.point import to_container
from vae_sweeps.config.schema import Point
from vae_sweeps.runs import claims
from vae_sweeps.system.files import read_lines, to_json, write_whole

log = logging.getLogger(__name__)

CONFIG, ROWS, RESULT, FAILURE = "config.yaml", "metrics.jsonl", "result.json", "failure.txt"
# The files that training makes; overwriting a run removes them.
_MADE = (ROWS, RESULT, FAILURE, "log.txt", "checkpoint.pt", "checkpoint.prev.pt", "checkpoint.pt.tmp")


def runs_folder(output_dir: str | Path) -> Path:
    return Path(output_dir) / "runs"


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


def has_ended(folder: Path) -> bool:
    """Whether the run has a result or has failed: nothing more will come of it by itself."""
    return (folder / RESULT).exists() or (folder / FAILURE).exists()
