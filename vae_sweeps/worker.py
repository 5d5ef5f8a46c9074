"""What a job runs: claim run folders, resume them, train them as a pack, have them recorded."""

import contextlib
import json
import logging
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import torch

from vae_sweeps import checkpoint, claims, code, evaluation, loading, machine, objective, parallel, progress, store
from vae_sweeps.building import build_features, build_vae, load_dataset, new_start, num_params
from vae_sweeps.checkpoint import Checkpoint
from vae_sweeps.config import read_point
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.recording import drawing, record
from vae_sweeps.reference import Reference
from vae_sweeps.schema import Evaluation, Point
from vae_sweeps.tracker import view
from vae_sweeps.tracker.live import Link
from vae_sweeps.training import Progress, train

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
    # Settings of the evaluation for whose sake parts are made again; see `evaluation.parts_left`.
    explicit: Collection[str] = ()
    link: Link = field(default_factory=Link)
    _references: dict[str, Reference] = field(default_factory=dict)

    def reference(self, point: Point) -> Reference:
        """The data's side of the evaluation of `point`, and the data; shared by all points of the job."""
        key = json.dumps(point.data, sort_keys=True, default=str)
        if key not in self._references:
            self._references[key] = new_reference(point, self.evaluation, self.device)
        return self._references[key]


def new_reference(point: Point, how: Evaluation, device: torch.device) -> Reference:
    """Raises ValueError where the evaluation asks for what the data, or this machine, has not."""
    dataset = load_dataset(point.data)
    features = build_features(how.features, dataset) if how.fid or how.kid else None
    return Reference(dataset, how, features, device)


class _ToFiles(logging.Handler):
    """Adds each record to every file and keeps none open: a pack may have more points than files may be open."""

    paths: Sequence[Path] = ()

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record) + "\n"
        for path in self.paths:
            with path.open("a") as file:
                file.write(line)


@contextlib.contextmanager
def _logged_to(folders: Sequence[Path]) -> Iterator[None]:
    """Copy the package's log into each run's log.txt."""
    package, handler = logging.getLogger("vae_sweeps"), _ToFiles()
    handler.paths = [folder / "log.txt" for folder in folders]
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)


def run_pack(folders: Sequence[Path], conditions: Conditions, label: str = "pack") -> None:
    """Bring the runs in `folders`, which can train together, to their end: done and evaluated, diverged or failed.

    Runs that another process has, or that are done, are left alone. What happened stands in the folders.
    """
    with claims.taken(list(folders)) as won:
        open_runs = [folder for folder in won if store.read_result(folder) is None]
        if open_runs:
            with _logged_to(open_runs):
                points = [read_point(folder / store.CONFIG) for folder in open_runs]
                _run_or_split(points, open_runs, conditions, label)
        _show(_evaluate(won, conditions), open_runs, conditions)


def evaluate_runs(folders: Sequence[Path], conditions: Conditions) -> None:
    """Evaluate those of the runs that are done, where something is left, and that nobody else works on."""
    with claims.taken(list(folders)) as won:
        _show(_evaluate(won, conditions), [], conditions)


def _show(evaluated: Sequence[Path], trained: Sequence[Path], conditions: Conditions) -> None:
    """Have the tracker finish the runs that were trained here, and take up what is new of others."""
    others = [folder for folder in evaluated if folder not in trained]
    conditions.link.begin({folder: view.facts_of(store.read_result(folder)) for folder in others})
    conditions.link.ended([*trained, *others])


def _evaluate(folders: Sequence[Path], conditions: Conditions) -> list[Path]:
    """Make what is left of the evaluations of those that are done; returns the runs whose results have changed."""
    changed = []
    for folder in folders:
        result = store.read_result(folder)
        if result is None or result["status"] != "done" or conditions.should_stop():
            continue
        parts = evaluation.parts_left(result, conditions.evaluation, conditions.explicit)
        if parts:
            claims.keep(folder)
            with _logged_to([folder]):
                try:
                    model = loading.load(folder)
                except ValueError as error:
                    log.warning("%s: not evaluated (%s)", folder.name, error)
                    continue
                found = evaluation.evaluate(model, conditions.reference(model.point), folder, parts)
                store.write_result(folder, evaluation.merged(result, found))
                changed.append(folder)
    return changed


def _run_or_split(points: Sequence[Point], folders: Sequence[Path], conditions: Conditions, label: str) -> None:
    """Train the pack; if it fails or runs out of memory, its halves, down to the one point that is to blame."""
    try:
        _resume_and_train(points, folders, conditions, label)
        return
    except Exception as error:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        if parallel.num_ranks() > 1:
            _give_up(folders, reason)
        if len(points) == 1:
            log.error("%s failed: %s", folders[0].name, reason)
            store.write_whole(folders[0] / store.FAILURE, traceback.format_exc())
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
        store.drop_rows_after(folder, step)
    parallel.tell((folders, step))
    vae = build_vae(points, dataset.image_shape)
    conditions.link.begin(
        {
            folder: {
                "beta_nats": objective.beta_nats(point, dataset.image_shape),
                "num_params": num_params(point, dataset.image_shape),
                "git_commit": code.commit(),
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
    while (told := parallel.hear()) is not None:
        folders, step = told
        try:
            points = [read_point(folder / store.CONFIG) for folder in folders]
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
    text = f"rank {parallel.rank()} of {parallel.num_ranks()}:\n{traceback.format_exc()}"
    is_echo = "closed by peer" in text.lower() or "connection" in text.lower()
    time.sleep(_ECHO_S if is_echo else 0)  # the rank whose end this is may have something to say itself
    if not (folders[0] / store.FAILURE).exists():
        log.error("rank %d failed: %s\n%s", parallel.rank(), reason, text)
        for folder in folders:
            store.write_whole(folder / store.FAILURE, text)
    raise SystemExit(1)
