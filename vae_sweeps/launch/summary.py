"""Show the results of a launch."""

import logging
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from vae_sweeps.analysis import seeds, table, terminal
from vae_sweeps.report import contents
from vae_sweeps.runs import catalogue
from vae_sweeps.runs.known_results import KnownResults
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system.logs import console

log = logging.getLogger(__name__)


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
    written = [sweep.table, sweep.mosaic, sweep.report]
    if content is not None:
        from vae_sweeps.launch import sweep_files  # torch, matplotlib and jinja2

        written = sweep_files.write(sweep, content)
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
