"""How a launch ends: the sweep's table on screen and on disk, its mosaic of samples and its report."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vae_sweeps.analysis import pictures, seeds, table, terminal
from vae_sweeps.analysis.mosaic import mosaic
from vae_sweeps.evaluation.model import load
from vae_sweeps.report import page
from vae_sweeps.system.logs import console
from vae_sweeps.system.rng import generator

log = logging.getLogger(__name__)


def value(result: Mapping[str, Any] | None) -> float:
    """What a point is worth to a sweeper: its validation ELBO in nats, NaN if it has none."""
    if result is None or result["status"] != "done":
        return math.nan
    return float(result["metrics"]["val/elbo"])


def tell(folders: Sequence[Path], swept: Sequence[str], sweep_folder: Path | None) -> None:
    """Print the table of `folders`, of several seeds their means; of a sweep also write table, mosaic and report."""
    frame = table.make_table(folders, swept)
    if (means := _over_seeds(frame)) is None:
        terminal.show(frame, swept, out=console)
    else:
        terminal.show(means, swept, out=console, over=["seed"])
        where = sweep_folder or folders[0].parent.parent
        log.info("each point for itself: vae-sweeps results %s (a mosaic is of the lowest seed)", where)
    for reason, runs in table.reasons(folders).items():
        log.info("missing of %s: %s", runs[0] if len(runs) == 1 else f"{len(runs)} points", reason)
    runs = folders[0].parent
    if sweep_folder is None:
        log.info("run: %s", folders[0] if len(folders) == 1 else f"{runs} ({len(folders)} runs)")
        return
    log.info("table, mosaic and report: %s", ", ".join(map(str, write(sweep_folder))))
    log.info("pictures of each point: %s", runs / "<run>" / "pictures")


def _over_seeds(frame: pd.DataFrame) -> pd.DataFrame | None:
    """Means over the seeds, if several points differ in them alone."""
    if len(set(frame["seed"])) < 2:
        return None
    try:
        means = seeds.over(frame)
    except ValueError as error:  # points of two data sets of one name
        log.info("no means over seeds: %s", error)
        return None
    return means if len(means) < len(frame) else None


def write(sweep_folder: Path) -> list[Path]:
    """Write the sweep's table, mosaic and report as they now are; returns the files."""
    runs, swept = table.find_runs(sweep_folder)
    table.to_file(table.make_table(runs, swept), sweep_folder / "results.parquet")
    files = [sweep_folder / "results.parquet"]
    picture = mosaic_of(runs, swept)
    if picture is not None:
        pictures.save(picture, sweep_folder / "mosaic.png")
        files.append(sweep_folder / "mosaic.png")
    return [*files, page.write([sweep_folder], sweep_folder / page.NAME)]


def mosaic_of(folders: Sequence[Path], swept: Sequence[str]) -> Any:
    """Samples of every point, of the lowest seed; beta, behind what else was swept, down and latent across."""
    frame = table.make_table(folders, swept).sort_values("seed", kind="stable")
    if frame.empty:
        return None
    runs = {folder.name: folder for folder in folders}
    others = [key for key in swept if key in frame and key not in ("beta", "latent", "seed")]
    rows = list(zip(*(frame[key] for key in [*others, "beta"]), strict=True))
    row_order = list(dict.fromkeys(rows)) if others else sorted(set(rows))
    latents = sorted(set(frame["latent"]))
    cells: dict[tuple[int, int], Any] = {}
    for row, latent, run, status in zip(rows, frame["latent"], frame["run"], frame["status"], strict=True):
        place = row_order.index(row), latents.index(latent)
        if place not in cells:
            cells[place] = _samples(runs[run]) if status == "done" else str(status)
    labels = [" ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in row) for row in row_order]
    return mosaic(cells, labels, [str(n) for n in latents], row_name=" ".join([*others, "beta"]), column_name="latent")


def _samples(folder: Path) -> Any:
    model = load(folder)
    eps = torch.randn(16, model.latent, generator=generator("samples", model.point.seed), dtype=model.dtype)
    return pictures.grid(model.decode(eps), 4, model.pixel_range)
