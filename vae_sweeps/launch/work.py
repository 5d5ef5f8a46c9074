"""Work on a sweep's waiting points, pack by pack, until none is left. Any number of processes may do so at once.

A worker chooses its next pack when it is free, so that fast workers train more, and a lost one costs its pack only.
While a worker chooses, it holds a lease on the sweep's folder; the runs of its pack are then claimed like any others.
"""

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vae_sweeps.config import trust
from vae_sweeps.config.launch_options import LaunchOptions, options_from
from vae_sweeps.config.schema import Point
from vae_sweeps.data.load import load_dataset
from vae_sweeps.evaluation.settings import parts_left
from vae_sweeps.launch import on_end, resubmission
from vae_sweeps.launch.packing import Candidate, candidate, next_pack
from vae_sweeps.launch.reporting import reported
from vae_sweeps.launch.worker import JobContext, References, evaluate_runs, run_claimed
from vae_sweeps.runs import claims
from vae_sweeps.runs.finding import readable_points
from vae_sweeps.runs.known_results import KnownResults
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.rungs import Halving, Rung
from vae_sweeps.runs.sweep_folder import SweepFolder, get_sweep
from vae_sweeps.system import lease, machine
from vae_sweeps.system.logs import count, start_logging
from vae_sweeps.tracker import requirements
from vae_sweeps.tracker.link import linked

log = logging.getLogger(__name__)

# How often a worker looks for points that others have left, in seconds.
_IDLE_S = 15.0


class Queue:
    """The points of a sweep that nobody has trained yet."""

    def __init__(self, sweep: SweepFolder, context: JobContext, num_workers: int) -> None:
        self.sweep, self._context, self._num_workers = sweep, context, num_workers
        self._candidates: dict[RunFolder, Candidate | None] = {}
        self._results = KnownResults()

    @contextlib.contextmanager
    def next(self) -> Iterator[tuple[list[RunFolder], Rung | None]]:
        """The runs of the next pack, claimed by this process, and the rung up to which it trains.

        There are none if there are none to claim.
        """
        self._learn(run for run in self.sweep.runs() if not run.has_ended())
        with contextlib.ExitStack() as held:
            with lease.wait_for(self.sweep.path, self.sweep.CHOOSING):
                chosen, rung = self._choose()
                claimed = held.enter_context(claims.taken(chosen))
            yield claimed, rung

    def _choose(self) -> tuple[list[RunFolder], Rung | None]:
        halving = Halving.read(self.sweep)
        for stage in halving.next_stages(self.sweep) if halving else ():
            self._learn(stage.runs)
            waiting = [point for run in stage.runs if (point := self._candidates[run]) is not None]
            # Workers without points have left after the first rung, so whoever comes first takes what is left.
            is_first = all(not point.run.checkpoint.exists() for point in waiting)
            if pack := self._pack_of(waiting, self._num_workers if is_first else 1):
                return pack, stage.rung
        halved = {name for bracket in halving.brackets for name in bracket.runs} if halving else set[str]()
        others = [point for point in self._unfinished() if point.run.name not in halved]
        return self._pack_of(others, self._num_workers), None

    def _pack_of(self, waiting: Sequence[Candidate], num_workers: int) -> list[RunFolder]:
        share = sum(point.own_cost for point in waiting) / num_workers
        return next_pack([point for point in waiting if not claims.is_held(point.run)], share)

    def has_unfinished(self) -> bool:
        """Whether there are points that have neither a result nor an error: others work on them, or may leave them."""
        return bool(self._unfinished())

    def to_evaluate(self) -> list[RunFolder]:
        """The runs that are done, and that lack parts of their evaluation."""
        evaluation, found = self._context.options.evaluation, []
        for run in self.sweep.runs():
            result = self._results.of(run)
            if result is not None and result["status"] == "done" and parts_left(result, evaluation):
                found.append(run)
        return found

    def _unfinished(self) -> list[Candidate]:
        """The points that have not ended, whether others work on them or not."""
        return [point for run, point in self._candidates.items() if point is not None and not run.has_ended()]

    def _learn(self, runs: Iterable[RunFolder]) -> None:
        """Read those of the runs that are not known yet."""
        new = [run for run in runs if run not in self._candidates]
        self._candidates |= dict.fromkeys(new, None)
        for run, point in readable_points(new).items():
            self._candidates[run] = self._read(run, point)

    def _read(self, run: RunFolder, point: Point) -> Candidate | None:
        try:
            shape = load_dataset(point.data).image_shape
            return candidate(run, point, shape, machine.memory_for_packs(self._context.device))
        except ValueError as error:
            log.warning("%s: left out (%s)", run.name, error)
            return None


def work_on(sweep: SweepFolder, context: JobContext, num_workers: int, *, is_patient: bool = False) -> None:
    """Train and evaluate points of the sweep until nothing is left to claim, or the process is asked to stop.

    `num_workers` is the number of workers that are expected to share the points: a pack is at most such a share of the
    work that is left, what others are busy with included. A patient worker stays until all points have ended, to take
    over those that others leave.
    """
    queue, number = Queue(sweep, context, num_workers), 0
    while not context.should_stop():
        with queue.next() as (claimed, rung):
            if claimed:
                number += 1
                label = f"pack {number} ({count(len(claimed), 'point')})"
                log.info("%s of %s", label, sweep.name)
                run_claimed(claimed, replace(context, rung=rung), label)
                continue
        evaluate_runs(queue.to_evaluate(), context)
        if not is_patient or not queue.has_unfinished():
            return
        _pause(context)


def _pause(context: JobContext) -> None:
    end = time.monotonic() + _IDLE_S
    while time.monotonic() < end and not context.should_stop():
        time.sleep(0.2)


def work(
    where: str, output_dir: Path, *, num_workers: int, device: str | None, is_patient: bool, is_trusted: bool
) -> bool:
    """`vae-sweeps work`: work on a sweep in this process, with the options of its last launch.

    `device` replaces that of the launch. If `is_trusted`, whatever the runs' configs name is called; see
    `config.trust`. Returns whether all points are done or diverged. Raises ValueError for a mistake, before anything is
    trained.
    """
    sweep = get_sweep(where, output_dir)
    points = sweep.points_of(sweep.read()["runs"])
    options, allowed = _options(sweep, next(iter(points)))
    options = replace(options, output_dir=str(sweep.output_dir), device=device or options.device)
    if options.devices > 1:
        raise ValueError(f"devices={options.devices}: a worker trains on one device; use launch.py for such points")
    chosen = machine.resolve_device(options.device)
    requirements.check(options.tracker.mode)
    if is_trusted:
        allowed |= trust.targets_of_points(points.values()) | trust.targets_of_options(options)
    with trust.allowing(allowed):
        trust.check_points(points.values())
        start_logging()
        machine.prepare()
        with machine.stop_signals() as should_stop, linked(options.tracker, sweep, keeps_place=True) as link:
            context = JobContext(chosen, options, should_stop, References(options, chosen), link)
            with reported(sweep, chosen):
                work_on(sweep, context, num_workers, is_patient=is_patient)
            was_stopped = should_stop()
        runs = sweep.runs()
        if not was_stopped:
            on_end.conclude(sweep, options.on_end)
    left = sum(not run.has_ended() for run in runs)
    log.info("%s: %s", sweep.name, f"{count(left, 'point')} left" if left else "all points have ended")
    return all(run.result.exists() for run in runs)


def _options(sweep: SweepFolder, run: RunFolder) -> tuple[LaunchOptions, frozenset[str]]:
    """The options of the sweep's last launch, and what they may call: only our own, unless this user submitted it."""
    if sweep.read_submissions():
        try:
            last = resubmission.read(sweep)
            return options_from(last["options"]), frozenset(last["allowed"])
        except ValueError:
            pass  # another user or another machine submitted it
    return run.read_launch_options(), frozenset()
