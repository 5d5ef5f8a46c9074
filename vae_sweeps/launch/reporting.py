"""Says what this job uses in the sweep's folder, while it works."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator

import torch

from vae_sweeps.runs import running_jobs
from vae_sweeps.runs.running_jobs import EVERY_S, RunningJob
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import machine, slurm
from vae_sweeps.system.usage import Meter, Usage, device_name

log = logging.getLogger(__name__)


@contextlib.contextmanager
def reported(sweep: SweepFolder | None, device: torch.device, every_s: float = EVERY_S) -> Iterator[None]:
    """Keep this job's file in the sweep's folder, which a thread renews every `every_s` seconds; see `running_jobs`.

    The job trains on `device`. A file that cannot be written is a warning, once.
    """
    if sweep is None:
        yield
        return
    has_ended = threading.Event()
    task, host = slurm.this_task(), socket.gethostname()
    job, name = task or f"process {os.getpid()}", task or running_jobs.name_here()
    occupied = machine.occupied(device)
    meter, model = Meter(device), device_name(device)

    def renew() -> None:
        try:
            usage = meter.measure()
        except Exception:  # a driver's error; training goes on, and will meet it if it matters
            usage = Usage()
        running = RunningJob(job, host, occupied.kind, occupied.count, model, *usage)
        running_jobs.write(sweep, name, running)

    def keep() -> None:
        is_written = True
        while True:
            try:
                renew()
                is_written = True
            except OSError as error:
                if is_written:
                    log.warning("%s: cannot be written (%s)", sweep.running_job(name), error.strerror)
                is_written = False
            if has_ended.wait(every_s):
                return

    thread = threading.Thread(target=keep, name="usage", daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join()
        with contextlib.suppress(OSError):
            running_jobs.remove(sweep, name)
