"""A run's folder: the names of its files, and how each is read and written."""

import json
import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vae_sweeps.config.launch_options import LaunchOptions, read_options
from vae_sweeps.config.point import read_point, to_container
from vae_sweeps.config.schema import Point
from vae_sweeps.system import yaml_files
from vae_sweeps.system.files import append_line, read_lines, to_json, write_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class RunFolder:
    """The folder of one run. No other code may spell the names of its files."""

    path: Path

    @classmethod
    def under(cls, output_dir: str | Path, name: str) -> "RunFolder":
        """The folder of the run `name` in an output folder."""
        return cls(runs_folder(output_dir) / name)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def id(self) -> str:
        """The run id, which is the end of the name."""
        return self.name.rsplit("-", 1)[-1]

    @property
    def output_dir(self) -> Path:
        """The output folder that holds this run."""
        return self.path.parent.parent

    @property
    def config(self) -> Path:
        """The point's resolved config, written once."""
        return self.path / "config.yaml"

    @property
    def launch_options(self) -> Path:
        """The options of the launch that made the folder."""
        return self.path / ".hydra" / "launch.yaml"

    @property
    def rows(self) -> Path:
        """Rows of training, one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def result(self) -> Path:
        """How the run ended, with its metrics; once this file exists the run is over."""
        return self.path / "result.json"

    @property
    def failure(self) -> Path:
        """The traceback of the error that ended the run."""
        return self.path / "failure.txt"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoint.pt"

    @property
    def previous_checkpoint(self) -> Path:
        return self.path / "checkpoint.prev.pt"

    @property
    def unfinished_checkpoint(self) -> Path:
        """The checkpoint that is being written; a kill may leave it behind."""
        return self.path / "checkpoint.pt.tmp"

    @property
    def claim(self) -> Path:
        """Which process works on the run."""
        return self.path / "claim.json"

    @property
    def claim_lock(self) -> Path:
        return self.path / ".claim.lock"

    @property
    def wandb_address(self) -> Path:
        """The address of the W&B run, and how much of the run is known to be uploaded."""
        return self.path / "wandb.json"

    @property
    def wandb_lock(self) -> Path:
        return self.path / ".wandb.lock"

    @property
    def jobs(self) -> Path:
        """submitit's files, if the run was trained outside a sweep in separate processes."""
        return self.path / "jobs"

    @property
    def pictures(self) -> Path:
        """The folder of the pictures drawn at the end."""
        return self.path / "pictures"

    def epoch_pictures(self, epoch: int) -> Path:
        """The folder of the pictures drawn after `epoch` epochs."""
        return self.pictures / f"epoch-{epoch:04d}"

    def all_pictures(self) -> list[Path]:
        """The folders that may hold pictures, newest first: the final pictures, then those of each epoch."""
        return [self.pictures, *sorted(self.pictures.glob("epoch-*"), reverse=True)]

    def create(self, point: Point, options: LaunchOptions, overrides: Iterable[str], code_diff: str = "") -> None:
        """Create the folder, with the point's config, the launch's options, the overrides and the code's changes.

        The config is never written again. `code_diff` is the difference between the code and its commit.
        """
        if self.config.exists():
            return
        self.launch_options.parent.mkdir(parents=True, exist_ok=True)
        if code_diff:
            write_whole(self.launch_options.with_name("code.diff"), code_diff)
        write_whole(self.launch_options.with_name("overrides.yaml"), yaml_files.dump(list(overrides)))
        write_whole(self.launch_options, yaml_files.dump(asdict(options)))
        write_whole(self.config, yaml_files.dump(to_container(point)))

    def exists(self) -> bool:
        """Whether this is the folder of a run."""
        return self.config.exists()

    def clear(self, *, keep_training: bool = False) -> None:
        """Remove everything that training wrote, or only the traceback of its failure; the config stays."""
        self.failure.unlink(missing_ok=True)
        if keep_training:
            return
        for path in (self.rows, self.result, self.log):
            path.unlink(missing_ok=True)
        for path in (self.checkpoint, self.previous_checkpoint, self.unfinished_checkpoint):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.pictures, ignore_errors=True)

    def read_point(self) -> Point:
        """The point that config.yaml holds. Raises ValueError if its keys do not fit this version."""
        return read_point(self.config)

    def read_launch_options(self) -> LaunchOptions:
        """The options of the launch that made the folder."""
        return read_options(self.launch_options)

    def append_row(self, row: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl."""
        append_line(self.rows, row)

    def read_rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        return read_lines(self.rows)

    def drop_rows_after(self, step: int) -> None:
        """Remove the rows after `step`: training resumes there and logs them again."""
        rows = self.read_rows()
        if rows:
            write_whole(self.rows, "".join(to_json(row) + "\n" for row in rows if row["step"] <= step))

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Record how the run ended; from now on it is done (or diverged)."""
        write_whole(self.result, to_json(result, indent=2) + "\n")
        self.failure.unlink(missing_ok=True)

    def read_result(self) -> dict[str, Any] | None:
        """The run's result, or None if it has none; a corrupt result is reported in the log and counts as none."""
        try:
            result = json.loads(self.result.read_text())
            if not isinstance(result, dict) or "status" not in result:
                raise ValueError("not a result")
            return result
        except FileNotFoundError:
            return None
        except ValueError:
            log.warning("%s: corrupt; the run counts as not done", self.result)
            return None

    def write_failure(self, text: str) -> None:
        """Record the traceback of the error that ended the run."""
        write_whole(self.failure, text)

    def read_failure(self) -> str | None:
        """The traceback of the error that ended the run, or None if there was none."""
        return self.failure.read_text() if self.failure.exists() else None

    def has_ended(self) -> bool:
        """Whether the run has a result or has failed: it will not change unless it is launched again."""
        return self.result.exists() or self.failure.exists()


def runs_folder(output_dir: str | Path) -> Path:
    """The folder that holds all runs of an output folder."""
    return Path(output_dir) / "runs"


def all_runs(output_dir: str | Path) -> list[RunFolder]:
    """All runs of an output folder, by name."""
    folders = map(RunFolder, sorted(runs_folder(output_dir).glob("*")))
    return [folder for folder in folders if folder.exists()]
