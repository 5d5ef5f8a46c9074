"""Submit the packs of a plan to SLURM, through submitit."""

import logging
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from vae_sweeps.config.identity import short_name
from vae_sweeps.config.keys import did_you_mean
from vae_sweeps.config.launchers import SlurmLauncher
from vae_sweeps.config.secrets import hide_all, hide_in_override
from vae_sweeps.launch import resubmission
from vae_sweeps.launch.job import job_of
from vae_sweeps.launch.plan import Plan
from vae_sweeps.launch.request import Launch
from vae_sweeps.runs import states
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import output_dir_option
from vae_sweeps.system import files, private, slurm
from vae_sweeps.system.git import snapshot
from vae_sweeps.system.logs import count

log = logging.getLogger(__name__)

# Settings that apply to all jobs of a sweep.
_OF_THE_SWEEP = ("_target_", "packs", "points_per_job", "wait", "snapshot", "resources")

# Keys of the launcher that are not parameters of submitit's executor, or have another name there.
_NOT_PARAMETERS = (*_OF_THE_SWEEP, "max_num_timeout", "timeout_min", "mem_gb")


def check(settings: SlurmLauncher, devices: int = 1) -> None:
    """Raise ValueError, with the message of sbatch, if SLURM would reject such jobs."""
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise ValueError("hydra/launcher=slurm: no sbatch on this machine; use a login node, or hydra/launcher=local")
    for kind in ["", *settings.resources]:
        _ask_sbatch(_with_devices(_for_architecture(settings, kind), devices), devices)


def _for_architecture(settings: SlurmLauncher, name: str) -> SlurmLauncher:
    """The settings for points of the architecture `name`."""
    changes = settings.resources.get(name, {})
    known = [f.name for f in fields(SlurmLauncher) if f.name not in _OF_THE_SWEEP]
    for key in changes:
        if key not in known:
            override = hide_in_override(f"hydra.launcher.resources.{name}.{key}={changes[key]}")
            raise ValueError(f"{override}: no such key; {did_you_mean(key, known)}")
    return replace(settings, **changes)


def _with_devices(settings: SlurmLauncher, devices: int) -> SlurmLauncher:
    """The settings for packs that train in `devices` tasks. Multiplies GPUs and memory; a task that dies ends all."""
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
        private.write(script, executor._make_submission_file_text("true", "check"))
        answer = subprocess.run(["sbatch", "--test-only", str(script)], capture_output=True, text=True, timeout=60)
    if answer.returncode != 0:
        lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in answer.stderr.splitlines()]
        raise ValueError(f"hydra/launcher=slurm: sbatch rejects such a job: {'; '.join(lines) or 'no reason given'}")


def submit(plan: Plan, launch: Launch) -> list[str]:
    """Submit packs, and runs that only need evaluation, in arrays no larger than the site allows; returns the tasks.

    Points of different architectures go into different arrays. Raises ValueError with the message of sbatch; jobs that
    were submitted before the error are recorded and stay in the queue.
    """
    settings, sweep, devices = launch.cluster, launch.sweep, launch.options.devices
    assert settings is not None
    assert sweep is not None
    code = snapshot(sweep.code, files.ROOT) if settings.snapshot else None
    resubmission.save(launch)
    recorded = {"launcher": hide_all(asdict(settings)), "options": asdict(launch.options)}
    by_kind: dict[str, list[Sequence[RunFolder]]] = {}
    for pack in plan.packs:
        kind = short_name(str(pack[0].read_point().arch["_target_"]))
        by_kind.setdefault(kind, []).append(pack)
    arrays = {
        kind: [job_of(job_packs, [], launch) for job_packs in _by_points(packs, settings.points_per_job or 0)]
        for kind, packs in by_kind.items()
    }
    if plan.to_evaluate:
        arrays["evaluation"] = [job_of([], plan.to_evaluate, launch)]
    size, tasks = slurm.max_array_size(), []
    for kind, jobs in arrays.items():
        for start in range(0, len(jobs), size):
            chunk = jobs[start : start + size]
            array_settings = _with_devices(_for_architecture(settings, kind), devices)
            executor = _executor(array_settings, sweep.jobs, f"{sweep.name}-{kind}", code, devices)
            try:
                with executor.batch():
                    submitted = [executor.submit(job) for job in chunk]
            except (FailedJobError, FailedSubmissionError) as error:
                message = " ".join(str(error.__cause__ or error).split())
                raise ValueError(f"sbatch: {message}; {len(tasks)} jobs were submitted before") from error
            finally:
                private.close_files(sweep.jobs)
            runs_by_task = {
                slurm_job.job_id: [run.name for pack in [*job.packs, job.to_evaluate] for run in pack]
                for slurm_job, job in zip(submitted, chunk, strict=True)
            }
            sweep.log_submission(runs_by_task, recorded)
            tasks += runs_by_task
    return tasks


def _by_points(packs: Sequence[Sequence[RunFolder]], limit: int) -> list[list[Sequence[RunFolder]]]:
    """The packs of each job: one pack, or several with at most `limit` points in total."""
    jobs: list[list[Sequence[RunFolder]]] = []
    for pack in packs:
        if jobs and sum(map(len, jobs[-1])) + len(pack) <= limit:
            jobs[-1].append(pack)
        else:
            jobs.append([pack])
    return jobs


def _executor(settings: SlurmLauncher, folder: Path, name: str, code: Path | None = None, tasks: int = 1) -> Any:
    given = {key: value for key, value in asdict(settings).items() if value not in (None, False, [], {})}
    chosen = {key: value for key, value in given.items() if key not in _NOT_PARAMETERS}
    setup = list(settings.setup)
    if code is not None:
        # By itself, `python -m` looks for modules in the current folder first, which is often the checkout.
        setup += ["export PYTHONSAFEPATH=1", f"export PYTHONPATH={shlex.quote(str(code))}:$PWD:$PYTHONPATH"]
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=settings.max_num_timeout)
    extra = {"requeue": True, "open-mode": "append", **settings.additional_parameters}
    chosen |= {"additional_parameters": extra, "setup": setup or None, "job_name": name, "time": settings.timeout_min}
    # One log file: that of the script, to which srun passes on what all tasks print.
    chosen |= {"stderr_to_stdout": True, "srun_args": ["--output=all", *settings.srun_args]}
    if tasks > 1:
        chosen |= {"nodes": 1, "ntasks_per_node": tasks}
    if settings.mem_gb is not None:
        chosen["mem"] = f"{round(1024 * settings.mem_gb)}MB"
    executor.update_parameters(**chosen)
    return executor


def on_cluster(plan: Plan, launch: Launch, *, may_detach: bool = True) -> bool:
    """Submit what is missing, and wait for the jobs if the settings or the sweeper require it.

    Returns whether the jobs have ended. Raises ValueError with the message of sbatch.
    """
    assert launch.cluster is not None
    assert launch.sweep is not None
    if plan.packs or plan.to_evaluate:
        tasks = submit(plan, launch)
        num_points = sum(map(len, plan.packs))
        log.info(
            "%s in %s submitted as %s: %s",
            count(num_points, "point"), count(len(plan.packs), "pack"), count(len(tasks), "job"), _in_short(tasks),
        )  # fmt: skip
    else:
        log.info("nothing to submit")
    if not launch.cluster.wait and may_detach:
        sweep = f"{shlex.quote(launch.sweep.name)}{output_dir_option(launch.sweep)}"
        log.info("see its progress: vae-sweeps status %s", sweep)
        return False
    if not launch.cluster.wait:
        log.info("the sweeper needs the points' values; waiting for them")
    states.wait(launch.sweep)
    return True


def _in_short(tasks: Iterable[str]) -> str:
    """Job ids, with the elements of an array as one range."""
    arrays: dict[str, int] = {}
    for task in tasks:
        arrays[task.split("_")[0]] = arrays.get(task.split("_")[0], 0) + 1
    return ", ".join(job if n == 1 else f"{job}_[0-{n - 1}]" for job, n in arrays.items())
