"""Write a sweep's table, mosaic and report."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vae_sweeps.analysis import pictures, table
from vae_sweeps.analysis.mosaic import mosaic
from vae_sweeps.evaluation.model import load_run
from vae_sweeps.report import contents, page
from vae_sweeps.report.contents import Contents
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system.rng import generator

log = logging.getLogger(__name__)

_BEST_PER_ROW = 10


def write(sweep: SweepFolder, content: Contents | None = None) -> list[Path]:
    """Write the files in their current state, or as they show `content`; returns the paths."""
    content = contents.read([sweep]) if content is None else content
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
