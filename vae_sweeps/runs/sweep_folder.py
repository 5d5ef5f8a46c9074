"""A sweep's folder: its points, its launches and its jobs."""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vae_sweeps.system import files
from vae_sweeps.system.files import to_json, write_whole

log = logging.getLogger(__name__)

_JOBS = "jobs.jsonl"


def log_submission(sweep_folder: Path, runs_of_tasks: Mapping[str, list[str]], settings: Mapping[str, Any]) -> None:
    """Remember which task has which runs, and how they were submitted."""
    entry = {"at": files.now(), "tasks": runs_of_tasks, "settings": settings}
    with (sweep_folder / _JOBS).open("a") as file:
        file.write(files.to_json(entry) + "\n")


def submissions(sweep_folder: Path) -> list[dict[str, Any]]:
    """What `log_submission` wrote, oldest first."""
    try:
        lines = (sweep_folder / _JOBS).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def tasks_of_runs(sweep_folder: Path) -> dict[str, str]:
    """The newest task of each run that was ever submitted."""
    newest: dict[str, str] = {}
    for entry in submissions(sweep_folder):
        for task, runs in entry["tasks"].items():
            newest |= dict.fromkeys(runs, task)
    return newest


def sweeps_folder(output_dir: str | Path) -> Path:
    return Path(output_dir) / "sweeps"


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


def log_launch(sweep_folder: Path, entry: Mapping[str, Any]) -> None:
    """Add one line to the sweep's launch log."""
    with (sweep_folder / "launches.jsonl").open("a") as file:
        file.write(to_json(entry) + "\n")
