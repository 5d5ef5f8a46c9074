"""From packs to SLURM's jobs, through submitit."""

import logging
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import submitit
import torch
from submitit.core.utils import FailedJobError, FailedSubmissionError

from vae_sweeps import slurm, store
from vae_sweeps.config import did_you_mean, read_point, to_container
from vae_sweeps.jobs import Job
from vae_sweeps.points import short_name
from vae_sweeps.schema import Point, SlurmLauncher

log = logging.getLogger(__name__)

# Settings that hold for all jobs of a sweep.
_OF_THE_SWEEP = ("_target_", "packs", "points_per_job", "wait", "snapshot", "resources")

_NO_LIMIT_MIN = 365 * 24 * 60

# Keys of the launcher that are no parameters of submitit's executor, or have another name there.
_OWN = (*_OF_THE_SWEEP, "max_num_timeout", "timeout_min", "mem_gb")


def check(settings: SlurmLauncher, devices: int = 1) -> None:
    """Raise ValueError, in sbatch's own words where it has any, if SLURM would not take such jobs."""
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise ValueError("hydra/launcher=slurm: no sbatch on this machine; run it on a login node, or take local")
    for kind in ["", *settings.resources]:
        _ask_sbatch(_for_ranks(_of_kind(settings, kind), devices), devices)


def _of_kind(settings: SlurmLauncher, kind: str) -> SlurmLauncher:
    """The settings for points of one architecture."""
    own = settings.resources.get(kind, {})
    known = [f.name for f in fields(SlurmLauncher) if f.name not in _OF_THE_SWEEP]
    for name in own:
        if name not in known:
            line = f"hydra.launcher.resources.{kind}.{name}={own[name]}: no such key; {did_you_mean(name, known)}"
            raise ValueError(line)
    return replace(settings, **own)


def _for_ranks(settings: SlurmLauncher, devices: int) -> SlurmLauncher:
    """The settings for packs of so many tasks: a GPU for each, memory for all; a rank that dies ends the others."""
    if devices == 1:
        return settings
    gpus = settings.gpus_per_node and settings.gpus_per_node * devices
    mem_gb = settings.mem_gb and settings.mem_gb * devices
    srun_args = [*settings.srun_args, "--kill-on-bad-exit=1"]
    return replace(settings, gpus_per_node=gpus, mem_gb=mem_gb, srun_args=srun_args)


def _ask_sbatch(settings: SlurmLauncher, devices: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        executor = _executor(settings, Path(folder), "check", tasks=devices)
        script = Path(folder) / "check.sh"
        script.write_text(executor._make_submission_file_text("true", "check"))
        asked = subprocess.run(["sbatch", "--test-only", str(script)], capture_output=True, text=True, timeout=60)
    if asked.returncode != 0:
        said = "; ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in asked.stderr.splitlines())
        raise ValueError(f"hydra/launcher=slurm: sbatch refuses such a job: {said or 'without a word'}")


def submit(
    packs: Sequence[Sequence[Path]],
    to_evaluate: Sequence[Path],
    first: Point,
    settings: SlurmLauncher,
    sweep_folder: Path,
) -> list[str]:
    """Submit packs, and runs that only want evaluation, in arrays no larger than the site allows; returns the tasks.

    Points of different architectures go into different arrays. Raises ValueError with sbatch's words; what was
    submitted before is logged and stays.
    """
    code = snapshot(sweep_folder, Path(__file__).resolve().parent.parent) if settings.snapshot else None
    by_kind: dict[str, list[Sequence[Path]]] = {}
    for pack in packs:
        kind = short_name(str(read_point(pack[0] / store.CONFIG).arch["_target_"]))
        by_kind.setdefault(kind, []).append(pack)
    arrays = {
        kind: [job_of(some, [], first, sweep_folder) for some in _by_points(own, settings.points_per_job or 0)]
        for kind, own in by_kind.items()
    }
    if to_evaluate:
        arrays["evaluation"] = [job_of([], to_evaluate, first, sweep_folder)]
    size, tasks = slurm.max_array_size(), []
    for kind, jobs in arrays.items():
        for start in range(0, len(jobs), size):
            chunk = jobs[start : start + size]
            own = _for_ranks(_of_kind(settings, kind), first.devices)
            executor = _executor(own, sweep_folder / "jobs", f"{sweep_folder.name}-{kind}", code, first.devices)
            try:
                with executor.batch():
                    submitted = [executor.submit(job) for job in chunk]
            except (FailedJobError, FailedSubmissionError) as error:
                said = " ".join(str(error.__cause__ or error).split())
                raise ValueError(f"sbatch: {said}; {len(tasks)} jobs are submitted") from error
            found = {
                one.job_id: [Path(run).name for pack in [*job.packs, job.to_evaluate] for run in pack]
                for one, job in zip(submitted, chunk, strict=True)
            }
            slurm.log_submission(sweep_folder, found, {"launcher": asdict(settings), "job": _how(first)})
            tasks += found
    return tasks


def last_settings(sweep_folder: Path) -> dict[str, Any] | None:
    """How the sweep was submitted last: the launcher's settings, and what its jobs know; None if it never was."""
    submissions = slurm.submissions(sweep_folder)
    return submissions[-1]["settings"] if submissions else None


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
        **_how(first),
    )


def _how(first: Point) -> dict[str, Any]:
    """What of the launch the jobs must know."""
    content = to_container(first)
    return {name: content[name] for name in ("device", "devices", "checkpoint_every_s", "evaluation", "tracker")}


def _by_points(packs: Sequence[Sequence[Path]], limit: int) -> list[list[Sequence[Path]]]:
    """Packs that one job trains one after another: one, or as many as make `limit` points."""
    jobs: list[list[Sequence[Path]]] = []
    for pack in packs:
        if jobs and sum(map(len, jobs[-1])) + len(pack) <= limit:
            jobs[-1].append(pack)
        else:
            jobs.append([pack])
    return jobs


def _executor(settings: SlurmLauncher, folder: Path, name: str, code: Path | None = None, tasks: int = 1) -> Any:
    given = {key: value for key, value in asdict(settings).items() if value not in (None, False, [], {})}
    chosen = {key: value for key, value in given.items() if key not in _OWN}
    setup = list(settings.setup)
    if code is not None:
        setup.append(f"export PYTHONPATH={shlex.quote(str(code))}:$PYTHONPATH")
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=settings.max_num_timeout)
    more = {"requeue": True, "open-mode": "append", **settings.additional_parameters}
    chosen |= {"additional_parameters": more, "setup": setup or None, "job_name": name, "time": settings.timeout_min}
    if tasks > 1:
        chosen |= {"nodes": 1, "ntasks_per_node": tasks}
    if settings.mem_gb is not None:
        chosen["mem"] = f"{round(1024 * settings.mem_gb)}MB"
    executor.update_parameters(**chosen)
    return executor


def snapshot(sweep_folder: Path, source: Path) -> Path:
    """A copy of `source`'s tracked files, as they are now, for jobs to run; one copy for each state of the code."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=source, capture_output=True, check=True).stdout
    files = [Path(name) for name in listed.decode().split("\0") if name and (source / name).is_file()]
    target = sweep_folder / "code" / store.content_hash([source / name for name in files])
    if not target.exists():
        aside = target.with_name(f".{target.name}.tmp")
        shutil.rmtree(aside, ignore_errors=True)
        for name in files:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, aside / name)
        aside.rename(target)
    return target.resolve()


def run_side_by_side(jobs: Sequence[Job], num_slots: int, folder: Path, should_stop: Callable[[], bool]) -> None:
    """Run `jobs` on this machine by submitit's local executor, at most one in each of `num_slots` slots.

    Each of a job's processes has a GPU, slot after slot, where there are so many. Told to stop, has the running jobs
    save and end, and waits.
    """
    waiting, running, told = list(jobs), dict[int, submitit.Job[None]](), set[str]()
    while (waiting and not should_stop()) or running:
        for slot in [slot for slot, job in running.items() if job.done()]:
            del running[slot]
        for slot in sorted(set(range(num_slots)) - set(running)):
            if waiting and not should_stop():
                running[slot] = _start(waiting.pop(0), slot, folder)
        for job in running.values():
            if should_stop() and job.job_id not in told:
                told.add(job.job_id)
                os.kill(int(job.job_id), signal.SIGTERM)  # its controller, which hands the signal on
        time.sleep(0.2)


def _start(job: Job, slot: int, folder: Path) -> "submitit.Job[None]":
    gpus = [int(gpu) for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu.strip().isdigit()]
    gpus = gpus or list(range(torch.cuda.device_count())) or [0]
    own = [gpus[(slot * job.devices + number) % len(gpus)] for number in range(job.devices)]
    executor = submitit.LocalExecutor(folder=folder)
    executor.update_parameters(
        timeout_min=_NO_LIMIT_MIN, tasks_per_node=job.devices, gpus_per_node=job.devices, visible_gpus=own
    )
    # Ctrl-C reaches all processes of a terminal at once; these are told by their parent, in order.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return executor.submit(job)
    finally:
        signal.signal(signal.SIGINT, handler)
