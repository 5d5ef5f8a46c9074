"""A sweep's folder: the names of its files, its points, its launches and its jobs."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vae_sweeps.runs.run_folder import RunFolder, runs_folder
from vae_sweeps.system import files


@dataclass(frozen=True, order=True)
class SweepFolder:
    """The folder of one sweep. No other code may spell the names of its files."""

    path: Path

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
        """The sweep's name, swept keys and runs."""
        return self.path / "points.json"

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
        """submitit's files."""
        return self.path / "jobs"

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

    def exists(self) -> bool:
        """Whether this is the folder of a sweep."""
        return self.points.exists()

    def add(self, runs: Iterable[str], swept: Iterable[str]) -> None:
        """Add names of runs and swept keys to the sweep's list of points; creates the folder if necessary."""
        self.path.mkdir(parents=True, exist_ok=True)
        known = self.read() if self.exists() else {"runs": [], "swept": []}
        content = {
            "sweep": self.name,
            "swept": list(dict.fromkeys([*known["swept"], *swept])),
            "runs": list(dict.fromkeys([*known["runs"], *runs])),
        }
        files.write_whole(self.points, files.to_json(content, indent=2) + "\n")

    def read(self) -> dict[str, Any]:
        """The sweep's name ("sweep"), swept keys ("swept") and names of runs ("runs")."""
        return json.loads(self.points.read_text())

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

    def log_launch(self, entry: Mapping[str, Any]) -> None:
        """Add one line to the sweep's launch log."""
        files.append_line(self.launches, entry)

    def read_launches(self) -> list[dict[str, Any]]:
        """The launch log, oldest first."""
        return files.read_lines(self.launches)

    def log_submission(self, runs_of_tasks: Mapping[str, list[str]], settings: Mapping[str, Any]) -> None:
        """Record which runs each task trains, and the settings of the submission."""
        files.append_line(self.submissions, {"at": files.now(), "tasks": runs_of_tasks, "settings": settings})

    def read_submissions(self) -> list[dict[str, Any]]:
        """The entries that `log_submission` wrote, oldest first; a line cut short by a kill is left out."""
        return files.read_lines(self.submissions)

    def tasks_of_runs(self) -> dict[str, str]:
        """The newest task of each run that was ever submitted, by the run's name."""
        newest: dict[str, str] = {}
        for entry in self.read_submissions():
            for task, runs in entry["tasks"].items():
                newest |= dict.fromkeys(runs, task)
        return newest


def output_dir_option(sweep: SweepFolder) -> str:
    """The option that `vae-sweeps` needs to find the sweep by its name; empty for the default output folder."""
    return "" if str(sweep.output_dir) == "outputs" else f" --output-dir {sweep.output_dir}"


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
    return sorted(SweepFolder(file.parent) for file in (Path(output_dir) / "sweeps").glob("*/points.json"))


def known_sweeps(output_dir: str | Path) -> str:
    """The names of all sweeps, as the end of an error message."""
    names = ", ".join(folder.name for folder in all_sweeps(output_dir))
    return f"sweeps in {output_dir}: {names}" if names else f"{output_dir} has no sweeps"
