"""A run about to be trained."""

from dataclasses import dataclass

from vae_sweeps.config.schema import Point
from vae_sweeps.runs.checkpoint import Checkpoint
from vae_sweeps.runs.row_log import RowLog
from vae_sweeps.runs.run_folder import RunFolder


@dataclass(frozen=True)
class Run:
    """A point, the folder of its results, and the checkpoint that training starts from.

    `rows` is None on a rank that writes nothing.
    """

    point: Point
    folder: RunFolder
    start: Checkpoint
    rows: RowLog | None = None
