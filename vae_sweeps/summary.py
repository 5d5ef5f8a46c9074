"""How a launch ends: the sweep's table on screen and on disk, its mosaic of samples and its report."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from vae_sweeps import loading, pictures, table
from vae_sweeps.cells import cell
from vae_sweeps.noise import generator
from vae_sweeps.progress import console
from vae_sweeps.report import page

log = logging.getLogger(__name__)

# What a narrow terminal shows first; the rest follows where there is room.
_FIRST = ["status", "test/elbo", "test/iwae", "test/log_px", "test/kl", "test/active_units", "fid", "time_s"]
_NEVER = {"run"}


def value(result: Mapping[str, Any] | None) -> float:
    """What a point is worth to a sweeper: its validation ELBO in nats, NaN if it has none."""
    if result is None or result["status"] != "done":
        return math.nan
    return float(result["metrics"]["val/elbo"])


def tell(folders: Sequence[Path], swept: Sequence[str], sweep_folder: Path | None) -> None:
    """Print the table of `folders`; for a sweep, also write its table, mosaic and report."""
    show(table.make_table(folders, swept), swept)
    for reason, runs in table.reasons(folders).items():
        log.info("missing of %s: %s", runs[0] if len(runs) == 1 else f"{len(runs)} points", reason)
    runs = folders[0].parent
    if sweep_folder is None:
        log.info("run: %s", folders[0] if len(folders) == 1 else f"{runs} ({len(folders)} runs)")
        return
    log.info("table, mosaic and report: %s", ", ".join(map(str, write(sweep_folder))))
    log.info("pictures of each point: %s", runs / "<run>" / "pictures")


def write(sweep_folder: Path) -> list[Path]:
    """Write the sweep's table, mosaic and report as they now are; returns the files."""
    runs, swept = table.find_runs(sweep_folder)
    table.to_file(table.make_table(runs, swept), sweep_folder / "results.parquet")
    files = [sweep_folder / "results.parquet"]
    picture = mosaic(runs, swept)
    if picture is not None:
        pictures.save(picture, sweep_folder / "mosaic.png")
        files.append(sweep_folder / "mosaic.png")
    return [*files, page.write([sweep_folder], sweep_folder / page.NAME)]


def show(frame: pd.DataFrame, swept: Sequence[str] = (), out: Console = console) -> None:
    """Print the table: as many columns as the terminal has room for, the most asked-for ones first."""
    names = [name for name in map(str, frame.columns) if name not in _NEVER and frame[name].notna().to_numpy().any()]
    same = {name for name in ("seed", "data", "arch", "likelihood") if len(set(frame[name])) < 2}
    names = [name for name in names if name not in same]
    config = [name for name in names if name in ("beta", "latent", *swept)]
    first = [name for asked in _FIRST for name in names if name == asked or name.startswith(f"{asked}/")]
    order = list(dict.fromkeys([*config, *first, *names]))
    cells = {name: [cell(name, v) for v in frame[name]] for name in order}
    widths = {name: max(map(len, [*name.split("/"), *cells[name]]), default=0) for name in order}
    room, kept = out.width if out.is_terminal else sum(widths.values()) + 2 * len(widths), []
    for name in order:
        if widths[name] + 2 <= room:
            kept.append(name)
            room -= widths[name] + 2
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in kept:
        side: Literal["left", "right"] = "left" if any(isinstance(v, str) for v in frame[name]) else "right"
        shown.add_column(name.replace("/", "\n"), justify=side, no_wrap=True, vertical="bottom")
    for row in zip(*(cells[name] for name in kept), strict=True):
        shown.add_row(*row)
    out.print(shown)
    hidden = len(order) - len(kept)
    more = f" {hidden} more columns: widen the terminal, or --csv FILE." if hidden else ""
    out.print(f"[dim]elbo, log_px and kl: nats per image, averaged over the split, the ELBO at beta = 1.{more}[/dim]")


def mosaic(folders: Sequence[Path], swept: Sequence[str]) -> Any:
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
    return pictures.mosaic(
        cells, labels, [str(n) for n in latents], row_name=" ".join([*others, "beta"]), column_name="latent"
    )


def _samples(folder: Path) -> Any:
    model = loading.load(folder)
    eps = torch.randn(16, model.latent, generator=generator("samples", model.point.seed), dtype=model.dtype)
    return pictures.grid(model.decode(eps), 4, model.pixel_range)
