"""A sweep's folder: the names of its files, its points, its launches and its jobs."""

import secrets
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vae_sweeps.config.schema import Point
from vae_sweeps.runs.finding import readable_points
from vae_sweeps.runs.run_folder import RunFolder, runs_folder
from vae_sweeps.runs.submissions import Submissions, parse
from vae_sweeps.system import files, private
from vae_sweeps.system.files import DamagedError
from vae_sweeps.system.logs import warn_once


@dataclass(frozen=True, order=True)
class SweepFolder:
    """The folder of one sweep. No other code may spell the names of its files."""

    path: Path

    # Leases on the folder: of a worker that chooses the points of its next pack, of a process that calls sbatch, and of
    # one that submits points for which the queue had no room before, and of one that carries out an adaptive search.
    CHOOSING: ClassVar[str] = ".choosing"
    SUBMITTING: ClassVar[str] = ".submitting"
    REST: ClassVar[str] = ".rest"
    SEARCHING: ClassVar[str] = ".searching"

    @classmethod
    def under(cls, output_dir: str | Path, name: str) -> "SweepFolder":
        """The folder of the sweep `name` in an output folder."""
        return cls(Path(output_dir) / "sweeps" / name)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def output_dir(self) -> Path:
        """The output folder that holds this sweep."""
        return self.path.parent.parent

    @property
    def points(self) -> Path:
        """A folder with one file for each launch that added points: the sweep's name, swept keys and runs."""
        return self.path / "points"

    @property
    def launches(self) -> Path:
        """The commands that launched it, one JSON object per line."""
        return self.path / "launches.jsonl"

    @property
    def submissions(self) -> Path:
        """Which runs each SLURM task trains, one JSON object per submission."""
        return self.path / "jobs.jsonl"

    @property
    def jobs(self) -> Path:
        """submitit's files; each user has a folder of their own, since jobs run what it holds."""
        return private.own(self.path / "jobs")

    @property
    def submission_settings(self) -> Path:
        """The settings of the last submission, shell lines included; only the user may read it."""
        return self.jobs / "settings.json"

    @property
    def halving(self) -> Path:
        """How the runs of the last launch are halved; see `rungs`."""
        return self.path / "halving.json"

    @property
    def rungs(self) -> Path:
        """A folder with one file for each rung: which runs went on after it."""
        return self.path / "rungs"

    @property
    def study(self) -> Path:
        """The journal of an adaptive search, which Optuna reads."""
        return self.path / "study.log"

    @property
    def running(self) -> Path:
        """A folder with one small file for each job that works on the sweep; see `running_jobs`."""
        return self.path / "running"

    def running_job(self, name: str) -> Path:
        """The file of one running job."""
        return self.running / f"{files.folder_name(name)}.json"

    def ending(self, key: str) -> Path:
        """An empty file which says that the ending `key` of the sweep has been announced."""
        return self.path / f"ended-{key}"

    def endings(self) -> list[Path]:
        """The files of all endings that were announced."""
        return list(self.path.glob("ended-*"))

    @property
    def code(self) -> Path:
        """Copies of the code that jobs run."""
        return self.path / "code"

    @property
    def table(self) -> Path:
        return self.path / "results.parquet"

    @property
    def mosaic(self) -> Path:
        return self.path / "mosaic.png"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def tensorboard(self) -> Path:
        """A folder with one folder for each run, which holds the run's event files for TensorBoard."""
        return self.path / "tensorboard"

    def exists(self) -> bool:
        """Whether this is the folder of a sweep."""
        return self.points.is_dir()

    def add(self, runs: Iterable[str], swept: Iterable[str]) -> None:
        """Add names of runs and swept keys to the sweep's list of points; creates the folder if necessary.

        Each call writes a file of its own, and none is changed later, so processes can add points at the same time.
        """
        known = self.read()
        known_runs, known_keys = set(known["runs"]), set(known["swept"])
        content = {
            "sweep": known["sweep"],
            "swept": [key for key in dict.fromkeys(swept) if key not in known_keys],
            "runs": [run for run in dict.fromkeys(runs) if run not in known_runs],
        }
        if content["swept"] or content["runs"] or not self.exists():
            self.points.mkdir(parents=True, exist_ok=True)
            # Names in the order of time; two launches at once may come in either order.
            files.write_whole(self.points / f"{time.time_ns():020d}-{secrets.token_hex(4)}.json", files.seal(content))

    def read(self) -> dict[str, Any]:
        """The sweep's name ("sweep"), swept keys ("swept") and names of runs ("runs"). Reports damaged files."""
        name, swept, runs = self.name, dict[str, None](), dict[str, None]()
        for path in sorted(self.points.glob("*.json")):
            try:
                content = read_points(path)
            except DamagedError as error:
                warn_once(str(error))
                continue
            name = content["sweep"]  # also where the folder was renamed
            swept |= dict.fromkeys(content["swept"])
            runs |= dict.fromkeys(content["runs"])
        return {"sweep": name, "swept": list(swept), "runs": list(runs)}

    def named_runs(self) -> list[str]:
        """The names of its runs. Raises DamagedError if a list of points cannot be read."""
        return [name for path in sorted(self.points.glob("*.json")) for name in read_points(path)["runs"]]

    def swept(self) -> list[str]:
        """The keys that were swept."""
        return self.read()["swept"]

    def runs(self) -> list[RunFolder]:
        """The sweep's runs, in the sweep's order."""
        folder = runs_folder(self.output_dir)
        return [RunFolder(folder / name) for name in self.read()["runs"]]

    def run(self, name: str) -> RunFolder:
        """The folder of the run `name`; the sweeps of an output folder share runs."""
        return RunFolder.under(self.output_dir, name)

    def points_of(self, runs: Iterable[str]) -> dict[RunFolder, Point]:
        """The points of `runs`, by name. Reports configs that cannot be read; raises ValueError if none can be."""
        points = readable_points(self.run(name) for name in runs)
        if not points:
            raise ValueError(f"{self.path}: no config of its points can be read; launch it again with its own command")
        return points

    def log_launch(self, entry: Mapping[str, Any]) -> None:
        """Add one line to the sweep's launch log."""
        files.append_line(self.launches, entry)

    def read_launches(self) -> list[dict[str, Any]]:
        """The launch log, oldest first, without entries of another shape: nothing follows from them."""
        entries = files.read_lines(self.launches)
        return [entry for entry in entries if isinstance(entry.get("command"), list) and "at" in entry]

    def write_rung(self, name: str, entry: Mapping[str, Any]) -> None:
        """Record which runs ("kept") go on after the rung `name`, with "epochs", "metric" and "values"."""
        self.rungs.mkdir(exist_ok=True)
        files.write_whole(self.rungs / f"{name}.json", files.seal(entry))

    def read_rung(self, name: str) -> dict[str, Any] | None:
        """What was decided after a rung; None if nothing was, or, with a warning, if the file is damaged."""
        path = self.rungs / f"{name}.json"
        try:
            return files.unseal(path.read_bytes(), path, "it is decided again, from the rows of the runs")
        except FileNotFoundError:
            return None
        except DamagedError as error:
            warn_once(str(error))
            return None

    def all_rungs(self) -> list[dict[str, Any]]:
        """What was decided after each rung, in the order of their epochs."""
        found = [rung for path in sorted(self.rungs.glob("*.json")) if (rung := self.read_rung(path.stem)) is not None]
        return sorted(found, key=lambda rung: rung["epochs"])

    def log_submission(self, runs_of_tasks: Mapping[str, list[str]], settings: Mapping[str, Any]) -> None:
        """Record which runs each task trains, and the settings of the submission."""
        files.append_line(self.submissions, {"at": files.now(), "tasks": runs_of_tasks, "settings": settings})

    def log_workers(self, tasks: Sequence[str], runs: Sequence[str], settings: Mapping[str, Any]) -> None:
        """Record tasks that share the sweep's points, the points that were missing then, and the settings."""
        files.append_line(
            self.submissions, {"at": files.now(), "workers": list(tasks), "runs": list(runs), "settings": settings}
        )

    def log_unsubmitted(self, runs: Sequence[str]) -> None:
        """Record for which runs there was no room in the queue; these replace those that were recorded before."""
        if list(runs) != list(self.submitted().unsubmitted):
            files.append_line(self.submissions, {"at": files.now(), "unsubmitted": list(runs)})

    def read_submissions(self) -> list[dict[str, Any]]:
        """The entries of submissions, oldest first; a line cut short by a kill is left out."""
        return files.read_lines(self.submissions)

    def submitted(self) -> Submissions:
        """Which tasks train which runs. Reports damaged lines."""
        return parse(
            self.read_submissions(), f"{self.submissions}: has a damaged line; the jobs that it listed are not known"
        )

    def last_log_line(self, task: str) -> str:
        """The last line that the task printed, or "" if there is none or the log is not ours to read."""
        try:
            logs = sorted(self.jobs.glob(f"{task}_*_log.*"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        except OSError:
            return ""
        for path in reversed(logs):
            try:
                with path.open("rb") as file:
                    file.seek(max(0, path.stat().st_size - 4096))
                    lines = file.read().decode(errors="replace").strip().splitlines()
            except OSError:
                continue
            if lines:
                return lines[-1].strip()
        return ""


def read_points(path: Path) -> dict[str, Any]:
    """The content of one file of a sweep's points. Raises DamagedError."""
    then = "its points are missing from the sweep until the command that added them is launched again"
    try:
        content = files.unseal(path.read_bytes(), path, then)
        types = {"sweep": str, "swept": list, "runs": list}
        if not all(isinstance(content[key], kind) for key, kind in types.items()):
            raise KeyError
        return content
    except KeyError as error:
        raise DamagedError(f"{path}: damaged: not a list of points; {then}") from error
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read ({error.strerror}); {then}") from error


def output_dir_option(sweep: SweepFolder) -> str:
    """The option, quoted for a shell, by which `vae-sweeps` finds the sweep's name; empty for the default folder."""
    return "" if str(sweep.output_dir) == "outputs" else f" --output-dir {shlex.quote(str(sweep.output_dir))}"


def find_sweep(where: str | Path, output_dir: str | Path) -> SweepFolder | None:
    """The sweep `where`, given by its path or by its name in `output_dir`; None if there is no such sweep."""
    folders = (SweepFolder(Path(where)), SweepFolder.under(output_dir, str(where)))
    return next((folder for folder in folders if folder.exists()), None)


def get_sweep(where: str | Path, output_dir: str | Path) -> SweepFolder:
    """The sweep `where`, as `find_sweep` finds it. Raises ValueError with the names of the existing sweeps."""
    sweep = find_sweep(where, output_dir)
    if sweep is None:
        raise ValueError(f"{where}: no such sweep; {known_sweeps(output_dir)}")
    return sweep


def all_sweeps(output_dir: str | Path) -> list[SweepFolder]:
    """All sweeps of an output folder, by name."""
    return sorted(SweepFolder(folder.parent) for folder in (Path(output_dir) / "sweeps").glob("*/points"))


def known_sweeps(output_dir: str | Path) -> str:
    """The names of all sweeps, as the end of an error message."""
    names = ", ".join(folder.name for folder in all_sweeps(output_dir))
    return f"sweeps in {output_dir}: {names}" if names else f"{output_dir} has no sweeps"
