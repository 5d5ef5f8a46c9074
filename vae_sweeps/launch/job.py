"""The job that submitit runs: train packs one after another, until they are done or the job is asked to stop.

This module imports torch late, since that takes seconds and a signal before submitit sets its handlers kills the job.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from vae_sweeps.config import trust
from vae_sweeps.config.launch_options import LaunchOptions
from vae_sweeps.launch.request import Launch
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder


@dataclass
class Job:
    """Submitit pickles the job, calls it on the node, and requeues it unchanged: all state is in the run folders."""

    packs: list[list[RunFolder]]
    to_evaluate: list[RunFolder]
    sweep: SweepFolder | None
    options: LaunchOptions
    num_threads: int | None = None
    # What the launch allowed the runs' configs to call; see `config.trust`.
    allowed: frozenset[str] = frozenset()

    @property
    def devices(self) -> int:
        """The number of processes that train each pack."""
        return self.options.devices

    def __call__(self) -> None:
        """Train and evaluate. On USR2 or TERM, save after the current step and let submitit requeue the job."""
        requeue = signal.getsignal(signal.SIGUSR2)
        received: list[int] = []
        process = os.getpid()

        def note(number: int, _: Any) -> None:
            if os.getpid() == process:  # ignore signals in forked processes
                received.append(number)

        for number in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, note)
        _remove_partial_saves()
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # before torch is imported; see launch.py
        with trust.allowing(self.allowed):
            self._work(lambda: bool(received))
        os.umask(0o077)  # what follows are submitit's own files
        if received and callable(requeue):
            self._requeue(requeue)

    def checkpoint(self) -> Any:
        """Called by submitit: the job to requeue."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _work(self, should_stop: Callable[[], bool]) -> None:
        import torch

        from vae_sweeps.launch import summary, worker
        from vae_sweeps.system import distributed, machine
        from vae_sweeps.system.logs import start_logging
        from vae_sweeps.tracker.link import linked

        start_logging()
        if num_threads := self.num_threads or int(os.environ.get("SLURM_CPUS_PER_TASK", 0)):
            torch.set_num_threads(num_threads)
        number, port = _rank_and_port()
        device = machine.resolve_device(self.options.device)
        if device.type == "cuda" and self.devices > 1:
            device = torch.device("cuda", number)
        machine.prepare()
        with distributed.joined(number, self.devices, port, device):
            context = worker.JobContext(device, self.options, should_stop, worker.References(self.options, device))
            if number > 0:
                worker.follow(context)
                return
            with linked(self.options.tracker, self.sweep) as link:
                self._lead(replace(context, link=link))
            distributed.broadcast(None)
        if self.sweep and not should_stop() and all(run.has_ended() for run in self.sweep.runs()):
            summary.write(self.sweep)

    def _lead(self, context: Any) -> None:
        from vae_sweeps.launch import worker
        from vae_sweeps.system.logs import count

        for i, pack in enumerate(self.packs):
            if not context.should_stop():
                label = f"pack {i + 1}/{len(self.packs)} ({count(len(pack), 'point')})"
                worker.run_pack(pack, context, label)
        worker.evaluate_runs(self.to_evaluate, context)

    def _requeue(self, requeue: Callable[[int, Any], Any]) -> None:
        """Call submitit's own handler, which counts time limits, saves this job, requeues it and exits."""
        from vae_sweeps.system import slurm

        if os.environ.get("SUBMITIT_EXECUTOR") != "slurm" or slurm.is_cancelled(os.environ["SLURM_JOB_ID"]):
            return
        requeue(signal.SIGUSR2, None)


def _rank_and_port() -> tuple[int, int]:
    """This process's rank in the job, and the port by which all ranks connect."""
    from submitit.helpers import TorchDistributedEnvironment

    try:
        environment = TorchDistributedEnvironment()
    except RuntimeError:  # the job was not started by an executor
        return 0, 0
    return environment.rank, environment.master_port


def _remove_partial_saves() -> None:
    """Remove files of a save that was interrupted by a kill, since they make submitit's next save fail."""
    from submitit import JobEnvironment

    with contextlib.suppress(RuntimeError, OSError):
        environment = JobEnvironment()
        for path in environment.paths.folder.glob(f"{environment.job_id}_*.save_tmp"):
            path.unlink(missing_ok=True)


def job_of(packs: Iterable[Iterable[RunFolder]], to_evaluate: Iterable[RunFolder], launch: Launch) -> Job:
    """Create the job that trains `packs` one after another and then evaluates `to_evaluate`."""

    def resolved(runs: Iterable[RunFolder]) -> list[RunFolder]:
        return [RunFolder(run.path.resolve()) for run in runs]

    sweep = SweepFolder(launch.sweep.path.resolve()) if launch.sweep else None
    packs_of_job = [resolved(pack) for pack in packs]
    return Job(packs_of_job, resolved(to_evaluate), sweep, launch.options, allowed=launch.allowed)
