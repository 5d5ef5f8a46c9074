"""A run's folder: the names of its files, and how each is read and written."""

import contextlib
import os
import shlex
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vae_sweeps.config.launch_options import LaunchOptions, read_options, to_record
from vae_sweeps.config.point import from_container, to_container
from vae_sweeps.config.schema import Point
from vae_sweeps.runs import pictures, sealed_config
from vae_sweeps.runs.claimed_folder import ClaimedFolder
from vae_sweeps.runs.pictures import Picture
from vae_sweeps.system import files, private, yaml_files
from vae_sweeps.system.files import DamagedError
from vae_sweeps.system.logs import warn_once

# The status of a run that halving has ended before its last step. It can be trained to the end later.
STOPPED = "stopped"


@dataclass(frozen=True, order=True)
class RunFolder(ClaimedFolder):
    """The folder of one run. No other code may spell the names of its files."""

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
        """The overrides and the options of the launch that made the folder."""
        return self.path / "launch.yaml"

    @property
    def earlier_launch_options(self) -> Path:
        """Where earlier versions wrote the options, beside files that nothing reads."""
        return self.path / ".hydra" / "launch.yaml"

    @property
    def code_diff(self) -> Path:
        """The difference between the code that made the folder and its commit."""
        return self.path / "code.diff"

    @property
    def source(self) -> Path:
        """The source code of the user's own parts at the launch, if the point has any."""
        return self.path / "source.zip"

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
    def wandb_address(self) -> Path:
        """The address of the W&B run, and how much of the run is known to be uploaded."""
        return self.path / "wandb.json"

    @property
    def tensorboard(self) -> Path:
        """The folder of the run's event files, if the run is in no sweep."""
        return self.path / "tensorboard"

    @property
    def jobs(self) -> Path:
        """submitit's files, if the run was trained outside a sweep in separate processes."""
        return private.own(self.path / "jobs")

    @property
    def pictures(self) -> Path:
        """The folder of the pictures drawn at the end."""
        return self.path / "pictures"

    def epoch_pictures(self, epoch: int) -> Path:
        """The folder of the pictures drawn after `epoch` epochs."""
        return self.pictures / f"epoch-{epoch:04d}"

    @property
    def packed_pictures(self) -> Path:
        """The archive into which `vae-sweeps clean` packs the pictures of a finished run."""
        return self.path / "pictures.zip"

    def all_pictures(self) -> dict[int | None, dict[str, Picture]]:
        """The pictures by epoch and name: first the final ones (epoch None), then those of each epoch, newest first."""
        return pictures.found_in(self.pictures, self.packed_pictures)

    def pictures_at(self, epoch: int | None) -> dict[str, Picture]:
        """The pictures of one epoch, or the final ones (None), by name. Looks only where those are."""
        place = self.pictures if epoch is None else self.epoch_pictures(epoch)
        return pictures.found_at(place, self.packed_pictures, "" if epoch is None else f"{place.name}/")

    def pack_pictures(self) -> None:
        """Move all pictures into one archive. Raises LostLeaseError, and OSError if the archive cannot be written."""
        self.write(self.packed_pictures, pictures.packed(self.pictures, self.packed_pictures))
        self.check()
        for file in pictures.files_in(self.pictures):
            file.unlink()
        for folder in (*self.pictures.glob("epoch-*"), self.pictures):
            with contextlib.suppress(OSError):  # it holds something that is no picture
                folder.rmdir()

    def create(
        self,
        point: Point,
        options: LaunchOptions,
        overrides: Iterable[str],
        code_diff: str = "",
        data_fingerprint: str = "",
        source_digest: str = "",
        source: bytes = b"",
    ) -> None:
        """Create the folder, with the point's config, the launch's options, the overrides and the code's changes.

        An intact config is never written again; a damaged one is. `code_diff` is the difference between the code and
        its commit, `source` a zip file with the user's own parts and `source_digest` their digest.
        """
        if self.config.exists() and not sealed_config.is_sound(self.config, self.name):
            try:
                self.read_config()  # an edit that changes no number stays
            except DamagedError as error:
                warn_once(f"{error}; it is written again, as this command describes the point")
                self.config.unlink()
        if self.config.exists():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        if code_diff:
            self.write(self.code_diff, code_diff)
        self.write(self.launch_options, yaml_files.dump({"overrides": list(overrides), "options": to_record(options)}))
        if source:
            self.write(self.source, source)
        self.write(self.config, sealed_config.seal(to_container(point), self.id, data_fingerprint, source_digest))

    def exists(self) -> bool:
        """Whether this is the folder of a run."""
        return self.config.exists()

    def refuse_links(self) -> None:
        """Raise ValueError if there is a link where the project writes: a link would be followed out of the folder."""
        for folder in (self.path, self.earlier_launch_options.parent, self.pictures, *self.pictures.glob("epoch-*")):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        raise ValueError(f"{entry.path}: is a link; remove it, since writing would follow it")

    def clear(self, *, keep_training: bool = False) -> None:
        """Remove everything that training wrote, or only the traceback of its failure; the config stays."""
        self.check()
        self.failure.unlink(missing_ok=True)
        if keep_training:
            return
        written = (self.rows, self.result, self.log, self.checkpoint, self.previous_checkpoint, self.packed_pictures)
        for path in written:
            path.unlink(missing_ok=True)
        shutil.rmtree(self.pictures, ignore_errors=True)

    def read_config(self) -> dict[str, Any]:
        """The content of config.yaml. Raises DamagedError if it is not what was written, FileNotFoundError."""
        return sealed_config.unseal(self.config, self.name).content

    def read_point(self) -> Point:
        """The point that config.yaml holds. Raises DamagedError, and ValueError if its keys do not fit this version."""
        try:
            return from_container(self.read_config())
        except (TypeError, KeyError) as error:
            raise ValueError(f"{self.config}: not a point of this version: {error}") from error

    def bound_id(self) -> str:
        """The run id to which the folder's files are bound; it stays the same if the folder is renamed."""
        return sealed_config.id_of(self.config) or self.id

    def source_digest(self) -> str:
        """The digest of the source of the user's own parts that the run was made with, "" if it has none."""
        return sealed_config.source_of(self.config)

    def read_launch_options(self) -> LaunchOptions:
        """The options of the launch that made the folder."""
        is_earlier = self.earlier_launch_options.exists() and not self.launch_options.exists()
        return read_options(self.earlier_launch_options if is_earlier else self.launch_options)

    def read_command(self) -> str:
        """The command that trains the point again, without its sweep and folder; empty if the folder does not say."""
        try:
            found = yaml_files.load(self.launch_options.read_text(encoding="utf-8"))["overrides"]
            overrides = [str(override) for override in found]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return ""
        kept = [override for override in overrides if not override.lstrip("+").startswith(("sweep=", "output_dir="))]
        return shlex.join([*files.LAUNCH, *kept])

    def read_rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        return files.read_lines(self.rows)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Record how the run ended, bound to the run id; from now on it is done (or diverged)."""
        self.write(self.result, files.seal({"run_id": self.bound_id(), **result}))
        with contextlib.suppress(FileNotFoundError):
            self.failure.unlink()

    def read_result(self) -> dict[str, Any] | None:
        """The run's result, or None if it has none; a damaged result is reported in the log and counts as none."""
        try:
            return self.unseal_result()
        except FileNotFoundError:
            return None
        except DamagedError as error:
            warn_once(str(error))
            return None

    def unseal_result(self) -> dict[str, Any]:
        """The run's result. Raises DamagedError, and FileNotFoundError if there is none."""
        then = "the run counts as not done, and launching it again writes a new one"
        try:
            result = files.unseal(self.result.read_bytes(), self.result, then)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DamagedError(f"{self.result}: cannot be read ({error.strerror}); {then}") from error
        if result.pop("run_id", None) != self.bound_id() or "status" not in result:
            raise DamagedError(f"{self.result}: damaged: it belongs to another run; {then}")
        return result

    def reopen(self) -> bool:
        """Remove the result of a run that was stopped, to train it on; returns whether it has none now."""
        result = self.read_result()
        if result is not None and result["status"] == STOPPED:
            self.check()
            self.result.unlink(missing_ok=True)
            return True
        return result is None

    def write_failure(self, text: str) -> None:
        """Record the traceback of the error that ended the run."""
        self.write(self.failure, text)

    def read_failure(self) -> str | None:
        """The traceback of the error that ended the run, or None if there was none."""
        try:
            return self.failure.read_text(errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"{self.failure}: cannot be read ({error.strerror})"

    def has_ended(self) -> bool:
        """Whether the run has a result or has failed: it will not change unless it is launched again."""
        return self.result.exists() or self.failure.exists()


def runs_folder(output_dir: str | Path) -> Path:
    """The folder that holds all runs of an output folder."""
    return Path(output_dir) / "runs"
