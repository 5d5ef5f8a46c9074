"""What a cluster's job runs: packs of runs, one after another, until they are done or the job is told to end.

Light to import: a signal that comes before submitit has its handlers would kill the job, and torch takes seconds.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vae_sweeps.config.point import to_container
from vae_sweeps.config.schema import Point


@dataclass
class Job:
    """Pickled by submitit, called on the node, and put into the queue again as it is: the state is in the folders."""

    packs: list[list[str]]
    to_evaluate: list[str]
    sweep_folder: str
    device: str
    checkpoint_every_s: float
    evaluation: dict[str, Any]
    tracker: dict[str, Any]
    devices: int = 1
    num_threads: int | None = None

    def __call__(self) -> None:
        """Train and evaluate. Told to end (USR2, TERM), save at the next step and have submitit requeue the job."""
        requeue = signal.getsignal(signal.SIGUSR2)
        received: list[int] = []
        process = os.getpid()

        def note(number: int, _: Any) -> None:
            if os.getpid() == process:  # not in what was forked from it
                received.append(number)

        for number in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, note)
        _clean_up_after_an_earlier_life()
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # before torch is imported; see launch.py
        self._work(lambda: bool(received))
        if received and callable(requeue):
            self._requeue(requeue)

    def checkpoint(self) -> Any:
        """What submitit queues again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _work(self, should_stop: Callable[[], bool]) -> None:
        import torch

        from vae_sweeps.config.schema import Evaluation, Tracker
        from vae_sweeps.launch import summary, worker
        from vae_sweeps.runs import run_folder
        from vae_sweeps.runs.sweep_folder import runs_of_sweep
        from vae_sweeps.system import distributed, machine
        from vae_sweeps.system.logs import start_logging
        from vae_sweeps.tracker.link import linked

        start_logging()
        if num_threads := self.num_threads or int(os.environ.get("SLURM_CPUS_PER_TASK", 0)):
            torch.set_num_threads(num_threads)
        number, port = _place_in_group()
        device = machine.resolve_device(self.device)
        if device.type == "cuda" and self.devices > 1:
            device = torch.device("cuda", number)
        machine.prepare()
        sweep_folder, how = Path(self.sweep_folder) if self.sweep_folder else None, Evaluation(**self.evaluation)
        with distributed.joined(number, self.devices, port, device):
            conditions = worker.Conditions(device, self.checkpoint_every_s, should_stop, how)
            if number > 0:
                worker.follow(conditions)
                return
            with linked(Tracker(**self.tracker), sweep_folder) as link:
                self._lead(replace(conditions, link=link))
            distributed.tell(None)
        if sweep_folder and not should_stop() and all(map(run_folder.has_ended, runs_of_sweep(sweep_folder))):
            summary.write(sweep_folder)

    def _lead(self, conditions: Any) -> None:
        from vae_sweeps.launch import worker
        from vae_sweeps.system.logs import count

        for i, pack in enumerate(self.packs):
            if not conditions.should_stop():
                label = f"pack {i + 1}/{len(self.packs)} ({count(len(pack), 'point')})"
                worker.run_pack(_paths(pack), conditions, label)
        worker.evaluate_runs(_paths(self.to_evaluate), conditions)

    def _requeue(self, requeue: Callable[[int, Any], Any]) -> None:
        """Through submitit's own handler, which counts time limits, saves this job, queues it again and exits."""
        from vae_sweeps.system import slurm

        if os.environ.get("SUBMITIT_EXECUTOR") != "slurm" or slurm.is_cancelled(os.environ["SLURM_JOB_ID"]):
            return
        requeue(signal.SIGUSR2, None)


def _paths(folders: Sequence[str]) -> list[Path]:
    return [Path(folder) for folder in folders]


def _place_in_group() -> tuple[int, int]:
    """This process's number among the job's, and the port at which they meet, which all of them can work out."""
    from submitit.helpers import TorchDistributedEnvironment

    try:
        place = TorchDistributedEnvironment()
    except RuntimeError:  # called in this process, by no executor
        return 0, 0
    return place.rank, place.master_port


def _clean_up_after_an_earlier_life() -> None:
    """A job killed while submitit saved it leaves a file that makes its next save fail."""
    from submitit import JobEnvironment

    with contextlib.suppress(RuntimeError, OSError):
        environment = JobEnvironment()
        for path in environment.paths.folder.glob(f"{environment.job_id}_*.save_tmp"):
            path.unlink(missing_ok=True)


def job_of(
    packs: Sequence[Sequence[Path]], to_evaluate: Sequence[Path], first: Point, sweep_folder: Path | None
) -> Job:
    """The job that trains `packs` one after another, and then evaluates `to_evaluate`."""

    def texts(folders: Iterable[Path]) -> list[str]:
        return [str(folder.resolve()) for folder in folders]

    return Job(
        [texts(pack) for pack in packs],
        texts(to_evaluate),
        str(sweep_folder.resolve()) if sweep_folder else "",
        **settings_of_job(first),
    )


def settings_of_job(first: Point) -> dict[str, Any]:
    """What of the launch the jobs must know."""
    content = to_container(first)
    return {name: content[name] for name in ("device", "devices", "checkpoint_every_s", "evaluation", "tracker")}
