"""What a job runs: claim run folders, resume them, train them as a pack, have them recorded."""

import json
import logging
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import torch

from vae_sweeps.config.point import read_point
from vae_sweeps.config.schema import Evaluation, Point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.evaluate import evaluate_parts, with_findings
from vae_sweeps.evaluation.model import load
from vae_sweeps.evaluation.reference import Reference, new_reference
from vae_sweeps.evaluation.settings import parts_left
from vae_sweeps.launch.record import draw_findings, drawing, record
from vae_sweeps.models.build import build_vae
from vae_sweeps.models.size import num_params
from vae_sweeps.runs import checkpoint, claims, run_folder
from vae_sweeps.runs.checkpoint import Checkpoint
from vae_sweeps.system import distributed, files, git, machine
from vae_sweeps.system.logs import logged_to
from vae_sweeps.tracker import view
from vae_sweeps.tracker.link import Link
from vae_sweeps.training import objective, progress
from vae_sweeps.training.loop import train
from vae_sweeps.training.pack import new_start
from vae_sweeps.training.progress import Progress

log = logging.getLogger(__name__)

# How long a rank that lost the others waits for their own word of what went wrong.
_ECHO_S = 3.0


@dataclass(frozen=True)
class Conditions:
    """Where and how a job works; nothing here changes a point's numbers."""

    device: torch.device
    checkpoint_every_s: float
    should_stop: Callable[[], bool]
    evaluation: Evaluation
    # Settings of the evaluation for whose sake parts are made again; see `parts_left`.
    explicit: Collection[str] = ()
    link: Link = field(default_factory=Link)
    _references: dict[str, Reference] = field(default_factory=dict)

    def reference(self, point: Point) -> Reference:
        """The data's side of the evaluation of `point`, and the data; shared by all points of the job."""
        key = json.dumps(point.data, sort_keys=True, default=str)
        if key not in self._references:
            self._references[key] = new_reference(point, self.evaluation, self.device)
        return self._references[key]


def run_pack(folders: Sequence[Path], conditions: Conditions, label: str = "pack") -> None:
    """Bring the runs in `folders`, which can train together, to their end: done and evaluated, diverged or failed.

    Runs that another process has, or that are done, are left alone. What happened stands in the folders.
    """
    with claims.taken(list(folders)) as won:
        open_runs = [folder for folder in won if run_folder.read_result(folder) is None]
        if open_runs:
            with logged_to(open_runs):
                points = [read_point(folder / run_folder.CONFIG) for folder in open_runs]
                _run_or_split(points, open_runs, conditions, label)
        _show(_evaluate(won, conditions), open_runs, conditions)


def evaluate_runs(folders: Sequence[Path], conditions: Conditions) -> None:
    """Evaluate those of the runs that are done, where something is left, and that nobody else works on."""
    with claims.taken(list(folders)) as won:
        _show(_evaluate(won, conditions), [], conditions)


def _show(evaluated: Sequence[Path], trained: Sequence[Path], conditions: Conditions) -> None:
    """Have the tracker finish the runs that were trained here, and take up what is new of others."""
    others = [folder for folder in evaluated if folder not in trained]
    conditions.link.begin({folder: view.facts_of(run_folder.read_result(folder)) for folder in others})
    conditions.link.ended([*trained, *others])


def _evaluate(folders: Sequence[Path], conditions: Conditions) -> list[Path]:
    """Make what is left of the evaluations of those that are done; returns the runs whose results have changed."""
    changed = []
    for folder in folders:
        result = run_folder.read_result(folder)
        if result is None or result["status"] != "done" or conditions.should_stop():
            continue
        parts = parts_left(result, conditions.evaluation, conditions.explicit)
        if parts:
            claims.keep(folder)
            with logged_to([folder]):
                try:
                    model = load(folder)
                except ValueError as error:
                    log.warning("%s: not evaluated (%s)", folder.name, error)
                    continue
                found, to_draw = evaluate_parts(model, conditions.reference(model.point), folder.name, parts)
                draw_findings(folder, to_draw)
                run_folder.write_result(folder, with_findings(result, found))
                changed.append(folder)
    return changed


def _run_or_split(points: Sequence[Point], folders: Sequence[Path], conditions: Conditions, label: str) -> None:
    """Train the pack; if it fails or runs out of memory, its halves, down to the one point that is to blame."""
    try:
        _resume_and_train(points, folders, conditions, label)
        return
    except Exception as error:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        if distributed.num_ranks() > 1:
            _give_up(folders, reason)
        if len(points) == 1:
            log.error("%s failed: %s", folders[0].name, reason)
            files.write_whole(folders[0] / run_folder.FAILURE, traceback.format_exc())
            return
        log.warning("%s of %d points failed (%s); going on with its halves", label, len(points), reason)
    # Outside the handler, where the exception no longer keeps the failed pack's tensors alive.
    half = len(points) // 2
    for part in (slice(None, half), slice(half, None)):
        if not conditions.should_stop():
            _run_or_split(points[part], folders[part], conditions, label)


def _resume_and_train(points: Sequence[Point], folders: Sequence[Path], conditions: Conditions, label: str) -> None:
    choices = [checkpoint.available(folder) for folder in folders]
    step = checkpoint.common_step(choices)
    if step is None:
        # Interrupted at different times: those that stand at the same step go on together.
        newest = [checkpoints[0].step if checkpoints else 0 for checkpoints in choices]
        for here in sorted(set(newest)):
            members = [i for i, at in enumerate(newest) if at == here]
            if not conditions.should_stop():
                _resume_and_train([points[i] for i in members], [folders[i] for i in members], conditions, label)
        return

    reference = conditions.reference(points[0])
    dataset = reference.dataset
    starts = _starts(points, choices, step, dataset)
    if step:
        log.info("%s: goes on after step %d", label, step)
    for folder in folders:
        run_folder.drop_rows_after(folder, step)
    distributed.tell((folders, step))
    vae = build_vae(points, dataset.image_shape)
    conditions.link.begin(
        {
            folder: {
                "beta_nats": objective.beta_nats(point, dataset.image_shape),
                "num_params": num_params(point, dataset.image_shape),
                "git_commit": git.commit(),
            }
            for folder, point in zip(folders, points, strict=True)
        }
    )
    with progress.shown(label) as show, machine.memory_kept(conditions.device):

        def report(news: Progress) -> None:
            show(news)
            for folder in folders:
                claims.keep(folder)

        outcomes = train(
            vae,
            points,
            folders,
            dataset,
            starts,
            device=conditions.device,
            checkpoint_every_s=conditions.checkpoint_every_s,
            should_stop=conditions.should_stop,
            report=report,
            saved=lambda step: conditions.link.saved(folders, step),
            draw=drawing(vae, points, folders, starts, dataset),
        )
    record(vae, points, folders, outcomes, starts, reference)


def _starts(
    points: Sequence[Point], choices: Sequence[Sequence[Checkpoint]], step: int, dataset: Dataset
) -> list[Checkpoint]:
    """Where the points stand at `step`, of which each has a checkpoint unless it is 0."""
    return [
        next((c for c in checkpoints if c.step == step), None) or new_start(point, dataset.image_shape)
        for point, checkpoints in zip(points, choices, strict=True)
    ]


def follow(conditions: Conditions) -> None:
    """Take part, as a rank that is not the main one, in whatever that trains."""
    while (told := distributed.hear()) is not None:
        folders, step = told
        try:
            points = [read_point(folder / run_folder.CONFIG) for folder in folders]
            dataset = conditions.reference(points[0]).dataset
            starts = _starts(points, [checkpoint.available(folder) for folder in folders], step, dataset)
            with machine.memory_kept(conditions.device):
                train(
                    build_vae(points, dataset.image_shape),
                    points,
                    folders,
                    dataset,
                    starts,
                    device=conditions.device,
                    checkpoint_every_s=float("inf"),
                    should_stop=conditions.should_stop,
                )
        except Exception as error:
            _give_up(folders, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


def _give_up(folders: Sequence[Path], reason: str) -> NoReturn:
    """End this rank after an error: the others, which wait for it, then end too. The first one's traceback stays."""
    text = f"rank {distributed.rank()} of {distributed.num_ranks()}:\n{traceback.format_exc()}"
    is_echo = "closed by peer" in text.lower() or "connection" in text.lower()
    time.sleep(_ECHO_S if is_echo else 0)  # the rank whose end this is may have something to say itself
    if not (folders[0] / run_folder.FAILURE).exists():
        log.error("rank %d failed: %s\n%s", distributed.rank(), reason, text)
        for folder in folders:
            files.write_whole(folder / run_folder.FAILURE, text)
    raise SystemExit(1)
