"""The job that submitit runs: train packs one after another, until they are done or the job is asked to stop.

This module imports torch late, since that takes seconds and a signal before submitit sets its handlers kills the job.
"""

import os
import secrets
import signal
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from vae_sweeps.config import trust
from vae_sweeps.config.launch_options import LaunchOptions
from vae_sweeps.launch import lives
from vae_sweeps.launch.job_request import JobRequest
from vae_sweeps.launch.lives import Lives
from vae_sweeps.launch.request import Launch
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.rungs import Rung
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import before_torch, lease_owner

_LEFT_EVERY_S = 0.5


@dataclass
class Job:
    """Submitit pickles the job and calls it on the node. All state of training is in the run folders."""

    packs: list[list[RunFolder]]
    to_evaluate: list[RunFolder]
    sweep: SweepFolder | None
    options: LaunchOptions
    num_threads: int | None = None
    # What the launch allowed the runs' configs to call; see `config.trust`.
    allowed: frozenset[str] = frozenset()
    # The number of workers that share the points of the sweep, this one included; 0 if the job has packs of its own.
    num_workers: int = 0
    # What the job asked SLURM for; None on this machine.
    request: JobRequest | None = None
    lives: Lives = field(default_factory=Lives)
    # Part of a file's name: outside of SLURM the id of a job is that of a process, which another job may have later.
    token: str = ""
    # Where training pauses; None: at the end.
    rung: Rung | None = None
    # The process that waits for the job, which ends with it; 0: none. It shows progress itself, or the job does.
    launched_by: int = 0
    shows_progress: bool = True
    # What its pack is called, if it has one only.
    label: str = ""
    # For evaluations; see `JobContext` and `Link`.
    explicit: Collection[str] = ()
    keeps_place: bool = False

    @property
    def devices(self) -> int:
        """The number of processes that train each pack."""
        return self.options.devices

    def runs(self) -> list[RunFolder]:
        """The runs that the job works on; for a worker, all runs of the sweep."""
        if self.num_workers and self.sweep:
            return self.sweep.runs()
        return [*(run for pack in self.packs for run in pack), *self.to_evaluate]

    def __call__(self) -> None:
        """Train and evaluate. On USR2 or TERM, save after the current step, and see to it that the work goes on."""
        received: list[int] = []
        process, is_left = os.getpid(), _HasEnded(self.launched_by)

        def note(number: int, _: Any) -> None:
            if os.getpid() == process:  # ignore signals in forked processes
                received.append(number)

        for number in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, note)
        began = lives.beginning_of(self)
        before_torch.prepare()
        with trust.allowing(self.allowed):
            self._work(lambda: bool(received) or is_left())
        os.umask(0o077)  # what follows are submitit's own files
        if received:
            lives.go_on(self, began)

    def checkpoint(self) -> Any:
        """Called by submitit if a signal comes before the job has begun: the job to requeue."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _work(self, should_stop: Callable[[], bool]) -> None:
        import torch

        from vae_sweeps.launch import on_end, worker
        from vae_sweeps.launch.reporting import reported
        from vae_sweeps.system import cpus, distributed, machine
        from vae_sweeps.system.logs import start_logging
        from vae_sweeps.tracker.link import linked

        start_logging()
        torch.set_num_threads(self.num_threads or cpus.usable())
        rank = self._rank()
        device = self._device(rank)
        machine.prepare()
        with distributed.joined(rank, device):
            references = worker.References(self.options, device)
            context = worker.JobContext(
                device,
                self.options,
                should_stop,
                references,
                explicit=self.explicit,
                rung=self.rung,
                shows_progress=self.shows_progress,
            )
            if rank.number > 0:
                worker.follow(context)
                return
            with (
                linked(self.options.tracker, self.sweep, keeps_place=self.keeps_place) as link,
                reported(self.sweep, device),
            ):
                self._lead(replace(context, link=link))
            distributed.broadcast(None)
        if self.sweep and not self.launched_by and not should_stop():
            on_end.conclude(self.sweep, self.options.on_end)

    def _device(self, rank: Any) -> Any:
        """The device to train on. A job that asked for a GPU and sees none fails, and says so in its runs."""
        import torch

        from vae_sweeps.system import gpus, machine

        try:
            device = machine.resolve_device(self.options.device)
            if self.request and self.request.asks_for_gpu and device.type == "cpu" and self.options.device == "auto":
                visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
                raise ValueError(
                    f"the job asked for a GPU, but torch sees none on {lives.node()} (CUDA_VISIBLE_DEVICES {visible}); "
                    "load the site's CUDA modules in hydra.launcher.setup, or train on the CPU with device=cpu"
                )
            if device.type == "cuda" and self.devices > 1:
                index = gpus.of_rank(rank.local, rank.ranks_on_node, torch.cuda.device_count())
                return torch.device("cuda", index)
            return device
        except ValueError as error:
            lives.fail(self, str(error))
            raise

    def _rank(self) -> Any:
        """This process's `rendezvous.Rank` in the job. A requeued job never reads the file of an earlier life."""
        from submitit import JobEnvironment

        from vae_sweeps.system.rendezvous import Rank

        try:
            environment = JobEnvironment()
        except RuntimeError:  # the job was not started by an executor
            return Rank()
        life = f"{environment.job_id}_{os.environ.get('SLURM_RESTART_COUNT', '0')}"
        file = environment.paths.folder / f"{life}_{self.token}.rendezvous"
        return Rank(environment.global_rank, self.devices, environment.local_rank, environment.num_nodes, file)

    def _lead(self, context: Any) -> None:
        from vae_sweeps.launch import work, worker
        from vae_sweeps.system.logs import count

        if self.num_workers and self.sweep:
            work.work_on(self.sweep, context, self.num_workers)
            return
        for i, pack in enumerate(self.packs):
            if not context.should_stop():
                label = f"pack {i + 1}/{len(self.packs)} ({count(len(pack), 'point')})"
                worker.run_pack(pack, context, self.label or label)
        worker.evaluate_runs(self.to_evaluate, context)


class _HasEnded:
    """Whether the process that waits for a job has ended, which nobody could tell the job if it was killed."""

    def __init__(self, pid: int) -> None:
        self._pid, self._has_ended, self._asked_at = pid, False, 0.0

    def __call__(self) -> bool:
        if self._pid and not self._has_ended and time.monotonic() - self._asked_at > _LEFT_EVERY_S:
            self._asked_at = time.monotonic()
            self._has_ended = lease_owner.has_ended(self._pid)
        return self._has_ended


def job_of(packs: Iterable[Iterable[RunFolder]], to_evaluate: Iterable[RunFolder], launch: Launch) -> Job:
    """Create the job that trains `packs` one after another and then evaluates `to_evaluate`."""

    def resolved(runs: Iterable[RunFolder]) -> list[RunFolder]:
        return [RunFolder(run.path.resolve()) for run in runs]

    sweep = SweepFolder(launch.sweep.path.resolve()) if launch.sweep else None
    packs_of_job = [resolved(pack) for pack in packs]
    token = secrets.token_hex(4)
    return Job(packs_of_job, resolved(to_evaluate), sweep, launch.options, allowed=launch.allowed, token=token)
