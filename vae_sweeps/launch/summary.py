"""Show the results of a launch, and write the sweep's table, mosaic and report."""

import logging
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vae_sweeps.analysis import pictures, seeds, table, terminal
from vae_sweeps.analysis.mosaic import mosaic
from vae_sweeps.evaluation.model import load_run
from vae_sweeps.report import contents
from vae_sweeps.report.contents import Contents
from vae_sweeps.runs import catalogue
from vae_sweeps.runs.known_results import KnownResults
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system.logs import console
from vae_sweeps.system.rng import generator

log = logging.getLogger(__name__)

_BEST_PER_ROW = 10


def value(result: Mapping[str, Any] | None, column: str) -> float:
    """The value of a column of the table for sweepers, NaN if the point has none or is not done."""
    if result is None or result["status"] != "done":
        return math.nan
    number = catalogue.number_of(result, column)
    return math.nan if number is None else number


def show(runs: Sequence[RunFolder], swept: Sequence[str], sweep: SweepFolder | None, results: KnownResults) -> None:
    """Print the table of `runs`, as means over seeds if there are several; for a sweep, write its files too.

    Files that are newer than everything that they show are left as they are.
    """
    content = None if sweep is None or _is_up_to_date(sweep) else contents.read([sweep], results)
    if content is not None and list(content.runs) == [run.name for run in runs]:
        frame = content.table
    else:
        frame = table.make_table(runs, swept, results)
    means = _over_seeds(frame)
    rows, over = (frame, []) if means is None else (means, ["seed"])
    best = contents.best(rows) if len(runs) > contents.MANY else None
    terminal.show(rows, swept, out=console, over=over, printed=best)
    if best is not None or means is not None:
        what = "lowest seed" if best is None else f"{len(best)} rows above, which have the best validation ELBO"
        where = sweep.path if sweep else runs[0].output_dir
        command = f"vae-sweeps results {shlex.quote(str(where))}"
        log.info("table of all points: %s (the mosaic shows the %s)", command, what)
    for reason, names in table.reasons({run.name: results.of(run) or {} for run in runs}).items():
        log.info("missing of %s: %s", names[0] if len(names) == 1 else f"{len(names)} points", reason)
    if sweep is None:
        log.info("run: %s", runs[0].path if len(runs) == 1 else f"{runs[0].path.parent} ({len(runs)} runs)")
        return
    written = _write(content, sweep) if content is not None else [sweep.table, sweep.mosaic, sweep.report]
    log.info("table, mosaic and report: %s", ", ".join(map(str, written)))
    log.info("pictures of each point: %s", RunFolder.under(sweep.output_dir, "<run>").pictures)


def _over_seeds(frame: pd.DataFrame) -> pd.DataFrame | None:
    """The means over seeds, if there are points that differ only in their seed."""
    if len(set(frame["seed"])) < 2:
        return None
    try:
        means = seeds.over(frame)
    except ValueError as error:  # points of two datasets with the same name
        log.info("no means over seeds: %s", error)
        return None
    return means if len(means) < len(frame) else None


def _is_up_to_date(sweep: SweepFolder) -> bool:
    """Whether all points of the sweep have ended, and its files were written after that."""
    try:
        written_at = min(path.stat().st_mtime for path in (sweep.table, sweep.mosaic, sweep.report))
        ended_at = [run.result.stat().st_mtime for run in sweep.runs()]
        return max([path.stat().st_mtime for path in sweep.points.iterdir()] + ended_at) < written_at
    except FileNotFoundError:
        return False


def write(sweep: SweepFolder) -> list[Path]:
    """Write the sweep's table, mosaic and report in their current state; returns the paths."""
    return _write(contents.read([sweep]), sweep)


def _write(content: Contents, sweep: SweepFolder) -> list[Path]:
    from vae_sweeps.report import page  # matplotlib and jinja2, which are not needed where the files are up to date

    table.to_file(content.table, sweep.table)
    files = [sweep.table]
    if content.runs:
        pictures.save(_mosaic_of(content, sweep.swept()), sweep.mosaic)
        files.append(sweep.mosaic)
    return [*files, page.write(content, sweep.report)]


def _mosaic_of(content: Contents, swept: Sequence[str]) -> Any:
    """A picture of samples of every point with the lowest seed.

    Rows are the swept keys with beta last, columns the latent size. Of many points, and of samples of a space, only the
    best are shown, in order.
    """
    if content.is_of_many:
        return _mosaic_of_best(content, content.best)
    frame = content.table.sort_values("seed", kind="stable")
    others = [key for key in swept if key in frame and key not in ("beta", "latent", "seed")]
    rows = list(zip(*(frame[key] for key in [*others, "beta"]), strict=True))
    row_order = list(dict.fromkeys(rows)) if others else sorted(set(rows))
    latents = sorted(set(frame["latent"]))
    if contents.is_sparse(len(set(zip(rows, frame["latent"], strict=True))), len(row_order) * len(latents)):
        return _mosaic_of_best(content, contents.best(content.table)["run"].tolist())
    cells: dict[tuple[int, int], Any] = {}
    for row, latent, run, status in zip(rows, frame["latent"], frame["run"], frame["status"], strict=True):
        position = row_order.index(row), latents.index(latent)
        if position not in cells:
            cells[position] = _cell(content.runs[run].folder) if status == "done" else str(status)
    labels = [" ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in row) for row in row_order]
    return mosaic(cells, labels, [str(n) for n in latents], row_name=" ".join([*others, "beta"]), column_name="latent")


def _cell(run: RunFolder) -> Any:
    """Samples of the run, or a word if it cannot be loaded: an earlier launch may have named other functions."""
    try:
        return _samples(run)
    except ValueError as error:
        log.warning("%s: not in the mosaic (%s)", run.name, error)
        return "not loaded"


def _mosaic_of_best(content: Contents, best: Sequence[str]) -> Any:
    tiles = [
        _cell(run.folder) if run.state.state == "done" else run.state.state
        for run in map(content.runs.__getitem__, best)
    ]
    num_rows = -(-len(tiles) // _BEST_PER_ROW)
    rows = [f"{_BEST_PER_ROW * r} +" for r in range(num_rows)]
    cells = {divmod(i, _BEST_PER_ROW): tile for i, tile in enumerate(tiles)}
    columns = [str(1 + c) for c in range(_BEST_PER_ROW)]
    return mosaic(cells, rows, columns, row_name="place", column_name="validation ELBO, best first")


def _samples(run: RunFolder) -> Any:
    model = load_run(run)
    eps = torch.randn(16, model.latent, generator=generator("samples", model.point.seed), dtype=model.dtype)
    return pictures.grid(model.decode(eps), 4, model.pixel_range)
