"""Where the runs of a pack start from: their intact checkpoints, and stand-ins for runs that start elsewhere."""

import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch

from vae_sweeps.config.identity import is_run_id, run_id
from vae_sweeps.config.schema import Point
from vae_sweeps.runs import checkpoint, own_source, row_log
from vae_sweeps.runs.checkpoint import Checkpoint
from vae_sweeps.runs.run import Run
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system.lease import LostLeaseError
from vae_sweeps.training.pack import new_start

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """A run of a pack: its folder, its point, and the checkpoints that it can start from."""

    folder: RunFolder
    point: Point
    choices: Sequence[Checkpoint]

    def run_at(self, step: int, image_shape: tuple[int, int, int]) -> Run:
        """The run at `step`, from its checkpoint, or from new weights if `step` is 0."""
        saved = next((c for c in self.choices if c.step == step), None)
        return Run(self.point, self.folder, saved or new_start(self.point, image_shape))

    def stand_in(self, like: Checkpoint) -> Run:
        """A run that only fills its place in a pack that starts from checkpoints such as `like`."""
        start = new_start(self.point, like.image_shape)
        return Run(self.point, self.folder, replace(start, step=like.step, trace=torch.zeros_like(like.trace)))


def read_member(folder: RunFolder, fingerprint_of: Callable[[Point], str]) -> Member | None:
    """What training needs of the folder; None, with the reason in failure.txt, if it cannot be trained.

    That is so if its config is damaged, if the code of its own parts has changed, or if it does not have its run id
    with the data at hand, whose fingerprint `fingerprint_of` returns.
    """
    try:
        point = folder.read_point()
    except (ValueError, FileNotFoundError) as error:
        fail(folder, str(error))
        return None
    try:
        own_source.check(folder, point)
    except ValueError as error:
        fail(folder, str(error))
        return None
    bound = folder.bound_id()
    if is_run_id(bound) and run_id(point, fingerprint_of(point), folder.source_digest()) != bound:
        fail(folder, f"{folder.config}: the data or this file has changed since the launch; launch the command again")
        return None
    return Member(folder, point, _fitting_checkpoints(folder))


def _fitting_checkpoints(folder: RunFolder) -> list[Checkpoint]:
    """The intact checkpoints whose rows are in metrics.jsonl, newest first. The others are reported in the log."""
    fitting = []
    for saved in checkpoint.available(folder):
        if row_log.holds(folder.rows, saved.rows):
            fitting.append(saved)
        else:
            log.warning("%s: damaged: not the rows of the checkpoint of step %d, not used", folder.rows, saved.step)
    if not fitting and folder.checkpoint.exists():
        log.warning("%s: no checkpoint can be used; it starts again from step 0", folder.name)
    return fitting


def fail(folder: RunFolder, reason: str, traceback: str | None = None) -> None:
    """Record that the run has failed, unless another process has taken it over."""
    log.error("%s failed: %s", folder.name, reason)
    with contextlib.suppress(LostLeaseError):
        folder.write_failure(traceback or f"{reason}\n")


def runs_from(
    step: int, members: Sequence[Member], absent: Collection[int], image_shape: tuple[int, int, int]
) -> list[Run]:
    """The runs of a pack that starts from `step`; the `absent` ones only fill their places."""
    runs = {k: member.run_at(step, image_shape) for k, member in enumerate(members) if k not in absent}
    like = next(iter(runs.values())).start
    return [runs[k] if k in runs else member.stand_in(like) for k, member in enumerate(members)]
