"""Find runs: by name or folder, all of an output folder, and those whose config can be read."""

from collections.abc import Iterable
from pathlib import Path

from vae_sweeps.config.schema import Point
from vae_sweeps.runs.run_folder import RunFolder, runs_folder
from vae_sweeps.system.logs import warn_once


def find_run(run: str | Path, output_dir: str | Path = "outputs") -> RunFolder:
    """The folder of a run, which is named by the folder or by its name in `output_dir`. Raises ValueError if none."""
    folders = (RunFolder(Path(run)), RunFolder.under(output_dir, str(run)))
    folder = next((folder for folder in folders if folder.exists()), None)
    if folder is None:
        raise ValueError(f"run={run}: no run folder (it has no config.yaml); `vae-sweeps results` lists them")
    return folder


def readable_points(runs: Iterable[RunFolder]) -> dict[RunFolder, Point]:
    """The points of those runs whose config can be read; the others are reported in the log."""
    points = {}
    for run in runs:
        try:
            points[run] = run.read_point()
        except (ValueError, FileNotFoundError) as error:
            warn_once(f"{error}; the run is left out")
    return points


def all_runs(output_dir: str | Path) -> list[RunFolder]:
    """All runs of an output folder, by name."""
    folders = map(RunFolder, sorted(runs_folder(output_dir).glob("*")))
    return [folder for folder in folders if folder.exists()]
