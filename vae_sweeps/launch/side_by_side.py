"""Jobs that train side by side on this machine, in processes of their own; their output is shown as it comes."""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import submitit

from vae_sweeps.launch.job import Job
from vae_sweeps.runs import states
from vae_sweeps.system import private
from vae_sweeps.system.gpus import of_slot
from vae_sweeps.system.logs import console
from vae_sweeps.training import progress

log = logging.getLogger(__name__)

_NO_LIMIT_MIN = 365 * 24 * 60
_EVERY_S = 0.2
_BARS_EVERY_S = 1.0
_SUBMITITS_OWN = "submitit "  # how the lines of submitit itself begin


def run_side_by_side(
    jobs: Sequence[Job], num_slots: int, folder: Path, should_stop: Callable[[], bool], gpus: Sequence[str]
) -> None:
    """Run `jobs` on this machine with submitit's local executor, at most `num_slots` at a time.

    Every process of a job uses its own one of `gpus` (names for CUDA_VISIBLE_DEVICES), if there are enough. If
    `should_stop()`, ask the running jobs to save and exit, and wait for them.
    """
    waiting, running, stopped = list(jobs), dict[int, _Running](), set[str]()
    first_said_by: dict[str, _Running] = {}
    with progress.several() as bars:
        while (waiting and not should_stop()) or running:
            for slot, job in list(running.items()):
                is_over = job.submitted.done()
                job.show(bars, first_said_by, is_over=is_over)
                if is_over:
                    del running[slot]
            for slot in sorted(set(range(num_slots)) - set(running)):
                if waiting and not should_stop():
                    running[slot] = _start(waiting.pop(0), slot, folder, gpus)
                    if bars is not None:
                        bars.add(running[slot].job.label)
            for job in running.values():
                if should_stop() and job.submitted.job_id not in stopped:
                    stopped.add(job.submitted.job_id)
                    os.kill(int(job.submitted.job_id), signal.SIGTERM)  # the job's controller, which forwards it
            time.sleep(_EVERY_S)


@dataclass
class _Running:
    """A job that was started, and how much of its output has been shown."""

    job: Job
    submitted: "submitit.Job[None]"
    num_bytes: int = 0
    bars_at: float = field(default_factory=time.monotonic)

    def show(self, bars: progress.Several | None, first_said_by: dict[str, "_Running"], *, is_over: bool) -> None:
        """Log the lines that the job has written since, and move its bar. What another job has said is left out."""
        for line in self._new_lines(is_over=is_over):
            if not line.startswith(_SUBMITITS_OWN) and first_said_by.setdefault(line, self) is self:
                log.info("%s", line)
        if is_over and (reason := self._failure()):
            log.error("%s: its process %s; the same command goes on from the last checkpoints", self.job.label, reason)
        if bars is None:
            return
        if is_over:
            bars.remove(self.job.label)
        elif time.monotonic() - self.bars_at >= _BARS_EVERY_S:
            self.bars_at = time.monotonic()
            rows = [row for pack in self.job.packs for run in pack if (row := states.newest_row(run))]
            with contextlib.suppress(KeyError, TypeError, ValueError):  # a damaged row; the job will say so
                if rows:
                    bars.update(self.job.label, progress.of_rows(rows))

    def _failure(self) -> str:
        """How the job's process ended, unless in order."""
        if not self.submitted.paths.result_pickle.exists():
            return f"was killed, perhaps for lack of memory ({self.submitted.paths.stderr})"
        error = self.submitted.exception()
        return f"failed: {str(error).strip().splitlines()[-1]} ({self.submitted.paths.stderr})" if error else ""

    def _new_lines(self, *, is_over: bool) -> Iterator[str]:
        try:
            with self.submitted.paths.stdout.open("rb") as file:
                file.seek(self.num_bytes)
                new = file.read()
        except OSError:  # not there yet
            return
        whole = len(new) if is_over else new.rfind(b"\n") + 1
        self.num_bytes += whole
        yield from new[:whole].decode(errors="replace").splitlines()


def _start(job: Job, slot: int, folder: Path, gpus: Sequence[str]) -> _Running:
    visible = of_slot(gpus, slot, job.devices)
    private.make_folder(folder)
    executor = submitit.LocalExecutor(folder=folder)
    executor.update_parameters(timeout_min=_NO_LIMIT_MIN, tasks_per_node=job.devices, gpus_per_node=len(visible))
    # `update_parameters` takes indices only, but these may be UUIDs and MIG instances.
    executor.parameters["visible_gpus"] = visible
    job = replace(job, launched_by=os.getpid(), shows_progress=not console.is_terminal)
    # A terminal sends Ctrl-C to all its processes. Jobs ignore it; this process stops them in order.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return _Running(job, executor.submit(job))
    finally:
        private.close_files(folder)
        signal.signal(signal.SIGINT, handler)
