"""Work on the runs of a pack: claim, resume, train, record and evaluate them."""

import contextlib
import json
import logging
import math
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import torch

from vae_sweeps.config.launch_options import LaunchOptions
from vae_sweeps.config.schema import Point
from vae_sweeps.evaluation.evaluate import evaluate_parts, with_findings
from vae_sweeps.evaluation.model import load_run
from vae_sweeps.evaluation.reference import Reference, new_reference
from vae_sweeps.evaluation.settings import parts_left
from vae_sweeps.launch.draw import PictureDrawer
from vae_sweeps.launch.observe import JobObserver
from vae_sweeps.launch.packing import is_near_limit
from vae_sweeps.launch.record import facts, record, remove_previous_checkpoints
from vae_sweeps.launch.resume import Member, fail, read_member, runs_from
from vae_sweeps.runs import checkpoint, claims
from vae_sweeps.runs.row_log import RowLog
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.rungs import Rung
from vae_sweeps.system import distributed, files, machine, memory
from vae_sweeps.system.lease import LostLeaseError
from vae_sweeps.system.logs import first_line, logged_to
from vae_sweeps.tracker import view
from vae_sweeps.tracker.link import Link
from vae_sweeps.training import progress
from vae_sweeps.training.loop import NoObserver, TrainOptions, train
from vae_sweeps.training.pack import Pack

log = logging.getLogger(__name__)

# How long a rank waits, after losing the others, for their error.
_OTHERS_ERROR_S = 3.0


class References:
    """The reference of each dataset of a job, computed when it is first needed."""

    def __init__(self, options: LaunchOptions, device: torch.device) -> None:
        self._evaluation, self._device = options.evaluation, device
        self._references: dict[str, Reference] = {}

    def of(self, point: Point) -> Reference:
        """The reference of the point's data, which also holds the dataset."""
        key = json.dumps(point.data, sort_keys=True)
        if key not in self._references:
            self._references[key] = new_reference(point, self._evaluation, self._device)
        return self._references[key]


@dataclass(frozen=True)
class JobContext:
    """The device, options and helpers of a job, and the rung at which training pauses.

    None of these changes the numbers of training.
    """

    device: torch.device
    options: LaunchOptions
    should_stop: Callable[[], bool]
    references: References
    link: Link = field(default_factory=Link)
    drawer: PictureDrawer = field(default_factory=PictureDrawer)
    # Evaluation settings whose change makes parts be evaluated again; see `parts_left`.
    explicit: Collection[str] = ()
    rung: Rung | None = None
    shows_progress: bool = True


def run_pack(runs: Sequence[RunFolder], context: JobContext, label: str = "pack") -> None:
    """Train the runs as one pack, and evaluate them. Each run becomes done, diverged or failed, unless interrupted.

    At a rung they only pause, or are stopped; runs that were stopped before go on.

    Skips runs that another process works on, and does not train runs that are done. All results are in the run folders.
    """
    with claims.taken(runs) as claimed:
        run_claimed(claimed, context, label)


def run_claimed(claimed: Sequence[RunFolder], context: JobContext, label: str) -> None:
    """Train as one pack, and evaluate, runs that this process has claimed; see `run_pack`."""
    is_end = context.rung is not None and context.rung.is_end
    open_runs = [run for run in claimed if (run.read_result() is None if is_end else run.reopen())]
    if open_runs:
        with logged_to(lambda: [run.log for run in open_runs if run.is_ours()]):
            _train_or_split(open_runs, context, label)
    with _turns(claimed, context) as turns:
        evaluated = [run for run in turns if _evaluate(run, context)]
    _notify_tracker(evaluated, open_runs, context)


def evaluate_runs(runs: Sequence[RunFolder], context: JobContext) -> None:
    """Evaluate the missing parts of those runs that are done and that no other process works on.

    Each run is claimed when its turn comes, so processes with the same runs share the work.
    """
    with _turns(runs, context) as turns:
        for run in turns:
            with claims.taken([run]) as claimed:
                _notify_tracker([run for run in claimed if _evaluate(run, context)], [], context)


def _notify_tracker(evaluated: Sequence[RunFolder], trained: Sequence[RunFolder], context: JobContext) -> None:
    """Let the tracker finish the runs that were trained here, and update the others that were evaluated."""
    others = [run for run in evaluated if run not in trained]
    context.link.begin({run: view.facts_of(run.read_result()) for run in others})
    context.link.ended([*trained, *others])


@contextlib.contextmanager
def _turns(runs: Sequence[RunFolder], context: JobContext) -> Iterator[Iterator[RunFolder]]:
    """Yields those of the runs that lack parts of their evaluation, until the job is asked to stop, and shows a bar."""
    left = [run for run in runs if _parts_left(run.read_result(), context)]
    with progress.evaluating(len(left), is_hidden=not context.shows_progress) as advance:

        def turns() -> Iterator[RunFolder]:
            for run in left:
                if context.should_stop():
                    return
                yield run
                advance()

        yield turns()


def _parts_left(result: Mapping[str, Any] | None, context: JobContext) -> Sequence[str]:
    """The parts of the evaluation that a run's result lacks; none unless the run is done."""
    if result is None or result["status"] != "done":
        return []
    return parts_left(result, context.options.evaluation, context.explicit)


def _evaluate(run: RunFolder, context: JobContext) -> bool:
    """Evaluate the missing parts of a run that this process has claimed; returns whether its result has changed."""
    result = run.read_result()
    parts = _parts_left(result, context)
    if result is None or not parts:  # another process has evaluated it
        return False
    with logged_to(lambda: [run.log] if run.is_ours() else []):
        try:
            model = load_run(run)
            findings, to_draw = evaluate_parts(model, context.references.of(model.point), run.name, parts)
            context.drawer.findings(run, to_draw)
            run.write_result(with_findings(result, findings))
            return True
        except (ValueError, LostLeaseError) as error:
            log.warning("%s: not evaluated (%s)", run.name, error)
            return False


def _train_or_split(runs: Sequence[RunFolder], context: JobContext, label: str) -> None:
    """Train the pack. If it fails or runs out of memory, train its halves, down to the point that causes the error."""
    machine.return_memory()
    try:
        with memory.limited(memory.room() if context.device.type == "cpu" else math.inf):
            _resume_and_train(runs, context, label)
        return
    except Exception as error:
        if files.is_storage_error(error):
            raise  # it affects all points, and their checkpoints are safe
        reason = first_line(error)
        if distributed.num_ranks() > 1:
            _give_up(runs, reason)
        if len(runs) == 1:
            fail(runs[0], reason, traceback.format_exc())
            return
        log.warning("%s of %d points failed (%s); training each half", label, len(runs), reason)
    # This is outside the handler, since the exception keeps the tensors of the failed pack alive.
    half = len(runs) // 2
    for part in (runs[:half], runs[half:]):
        if not context.should_stop():
            _train_or_split(part, context, label)


def _resume_and_train(folders: Sequence[RunFolder], context: JobContext, label: str) -> None:
    """Train the runs in one pack, or, if they have no step in common, in one pack for each step that they reached."""
    found = [read_member(folder, lambda point: context.references.of(point).dataset.fingerprint) for folder in folders]
    members = [member for member in found if member is not None]
    if not members:
        return
    step = checkpoint.common_step([member.choices for member in members])
    newest = [member.choices[0].step if member.choices else 0 for member in members]
    steps = [step] * len(members) if step is not None else newest
    for step in sorted(set(steps)):
        if not context.should_stop():
            absent = {k for k, its_step in enumerate(steps) if its_step != step}
            _train_from(step, members, absent, context, label)


def _train_from(step: int, members: Sequence[Member], absent: Collection[int], context: JobContext, label: str) -> None:
    """Train the members that start from `step`; the `absent` ones only fill their places in the pack."""
    living = [k for k in range(len(members)) if k not in absent]
    reference = context.references.of(members[0].point)
    dataset = reference.dataset
    if step:
        is_end = context.rung is not None and context.rung.is_end
        log.info("%s: %s after step %d", label, "stopped" if is_end else "resumes", step)
    distributed.broadcast(([RunFolder(member.folder.path) for member in members], step, absent, context.rung))
    runs = runs_from(step, members, absent, dataset.image_shape)
    is_shared = len(runs) > 1 and distributed.num_ranks() == 1  # only such a pack can be halved
    is_tried = is_shared and is_near_limit([run.point for run in runs], dataset.image_shape, context.device)
    with contextlib.ExitStack() as logs:
        for k in living:
            rows = RowLog(runs[k].folder, runs[k].start.rows)
            logs.callback(rows.close)
            runs[k] = replace(runs[k], rows=rows)
        pack = Pack(runs, dataset.image_shape, context.device, absent)
        context.link.begin({runs[k].folder: facts(runs[k].point, dataset.image_shape) for k in living})
        with progress.shown(label, is_hidden=not context.shows_progress) as show, machine.memory_kept(context.device):
            observer = JobObserver(
                pack, dataset, context.options.evaluation, drawer=context.drawer, link=context.link, show=show
            )
            how = context.options
            options = TrainOptions(how.checkpoint_every_s, context.should_stop, is_tried, context.rung, how.graphs)
            outcomes = train(pack, dataset, options, observer)
        record(pack, outcomes, reference, context.drawer)
        if context.options.keep_previous_checkpoint == "until_done":
            remove_previous_checkpoints(pack, outcomes)


def follow(context: JobContext) -> None:
    """Train alongside the main rank until it says stop."""
    while (message := distributed.receive()) is not None:
        folders, step, absent, rung = message
        try:
            members = [Member(folder, folder.read_point(), checkpoint.available(folder)) for folder in folders]
            dataset = context.references.of(members[0].point).dataset
            runs = runs_from(step, members, absent, dataset.image_shape)
            pack = Pack(runs, dataset.image_shape, context.device, absent)
            with machine.memory_kept(context.device):
                train(pack, dataset, TrainOptions(should_stop=context.should_stop, rung=rung), NoObserver())
        except Exception as error:
            _give_up(folders, first_line(error))


def _give_up(runs: Sequence[RunFolder], reason: str) -> NoReturn:
    """Exit this rank after an error, so that the ranks that wait for it exit too; keep only the first traceback."""
    text = f"rank {distributed.rank()} of {distributed.num_ranks()}:\n{traceback.format_exc()}"
    is_secondary = "closed by peer" in text.lower() or "connection" in text.lower()
    time.sleep(_OTHERS_ERROR_S if is_secondary else 0)  # the rank that failed first may still be writing its own error
    if not runs[0].failure.exists():
        log.error("rank %d failed: %s\n%s", distributed.rank(), reason, text)
        for run in runs:
            run.write_failure(text)
    raise SystemExit(1)
