"""Submit the packs of a plan to SLURM, or workers that share its points."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import NamedTuple

from vae_sweeps.config.identity import short_name
from vae_sweeps.config.keys import did_you_mean
from vae_sweeps.config.launch_options import to_record
from vae_sweeps.config.launchers import SlurmLauncher
from vae_sweeps.config.secrets import hide_all, hide_in_override
from vae_sweeps.launch import resubmission, sbatch
from vae_sweeps.launch.job import Job, job_of
from vae_sweeps.launch.job_request import JobRequest
from vae_sweeps.launch.plan import Plan
from vae_sweeps.launch.request import Launch
from vae_sweeps.launch.tasks import spread
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import files
from vae_sweeps.system.git import snapshot
from vae_sweeps.system.logs import count


class Submitted(NamedTuple):
    """The tasks of a submission, the names of the runs that sbatch did not take for now, and what it said of them."""

    tasks: list[str]
    left: list[str]
    words: str


def check(settings: SlurmLauncher, devices: int = 1) -> None:
    """Raise ValueError, with the message of sbatch, if SLURM would reject such jobs."""
    for kind in ["", *settings.resources]:
        asked = spread(_for_architecture(settings, kind), devices)
        sbatch.check(JobRequest(asked, "check", Path(), tasks=devices))


def _for_architecture(settings: SlurmLauncher, name: str) -> SlurmLauncher:
    """The settings for points of the architecture `name`."""
    changes = settings.resources.get(name, {})
    known = [f.name for f in fields(SlurmLauncher) if f.name not in sbatch.OF_THE_SWEEP]
    for key in changes:
        if key not in known:
            override = hide_in_override(f"hydra.launcher.resources.{name}.{key}={changes[key]}")
            raise ValueError(f"{override}: no such key; {did_you_mean(key, known)}")
    return replace(settings, **changes)


# What a shared file system writes, in bytes per second, when many jobs save at the same time.
_SAVED_PER_S = 20e6


def _with_time_to_save(settings: SlurmLauncher, plan: Plan) -> SlurmLauncher:
    """The settings with a signal that leaves enough time to save the largest pack, up to half of the time limit."""
    needed_s = min(30 + round(plan.checkpoint_bytes / _SAVED_PER_S), 30 * settings.timeout_min)
    return replace(settings, signal_delay_s=max(settings.signal_delay_s, needed_s))


def settings_of_jobs(plan: Plan, launch: Launch, kind: str) -> SlurmLauncher:
    """What the jobs of a kind of `jobs_by_kind` ask for."""
    assert launch.cluster is not None
    return _with_time_to_save(spread(_for_architecture(launch.cluster, kind), launch.options.devices), plan)


def submit(plan: Plan, launch: Launch, *, is_full: bool = False) -> Submitted:
    """Submit packs, and runs that only need evaluation, in arrays no larger than the site allows; see `sbatch.submit`.

    Points of different architectures go into different arrays. Raises ValueError with the message of sbatch; jobs that
    were submitted before the error are recorded and stay in the queue.
    """
    settings, sweep = launch.cluster, launch.sweep
    assert settings is not None
    assert sweep is not None
    code = snapshot(sweep.code, files.ROOT) if settings.snapshot else None
    resubmission.save(launch)
    tasks, left, words = list[str](), list[str](), ""
    for kind, jobs in jobs_by_kind(plan, launch).items():
        request = JobRequest(
            settings=settings_of_jobs(plan, launch, kind),
            name=f"{sweep.name}-{kind}",
            folder=sweep.jobs,
            code=code,
            tasks=launch.options.devices,
        )
        new: list[str] = []
        if not words:
            try:
                new, words = sbatch.submit(request, [replace(job, request=request) for job in jobs], is_full=is_full)
            except ValueError as error:
                raise ValueError(f"{error}; {count(len(tasks), 'job')} submitted before") from error
        tasks += new
        if settings.elastic:
            missing = [run.name for run in (*(run for pack in plan.packs for run in pack), *plan.to_evaluate)]
            if new:
                sweep.log_workers(new, missing, _recorded(launch))
            else:
                left += missing
        else:
            names = [[run.name for run in job.runs()] for job in jobs]
            if new:
                sweep.log_submission(dict(zip(new, names, strict=False)), _recorded(launch))
            left += [name for of_job in names[len(new) :] for name in of_job]
    planned = {run.name for run in plan.runs.unique}
    others = [name for name in sweep.submitted().unsubmitted if name not in planned]
    sweep.log_unsubmitted([*others, *left])
    return Submitted(tasks, left, words)


def _recorded(launch: Launch) -> dict[str, object]:
    assert launch.cluster is not None
    return {"launcher": hide_all(asdict(launch.cluster)), "options": to_record(launch.options)}


def jobs_by_kind(plan: Plan, launch: Launch) -> dict[str, list[Job]]:
    """The jobs of each architecture, and those that only evaluate; or the workers that share all points."""
    settings = launch.cluster
    assert settings is not None
    if settings.elastic:
        num_points = sum(map(len, plan.packs)) + len(plan.to_evaluate)
        wanted = settings.packs if isinstance(settings.packs, int) else max(1, len(plan.packs))
        num_workers = min(wanted, num_points)
        return {"worker": [replace(job_of([], [], launch), num_workers=num_workers) for _ in range(num_workers)]}
    by_kind: dict[str, list[Sequence[RunFolder]]] = {}
    for pack in plan.packs:
        kind = short_name(str(plan.runs.unique[pack[0]][0].arch["_target_"]))
        by_kind.setdefault(kind, []).append(pack)
    jobs = {
        kind: [job_of(job_packs, [], launch) for job_packs in _by_points(packs, settings.points_per_job or 0)]
        for kind, packs in by_kind.items()
    }
    if plan.to_evaluate:
        jobs["evaluation"] = [job_of([], plan.to_evaluate, launch)]
    return jobs


def _by_points(packs: Sequence[Sequence[RunFolder]], limit: int) -> list[list[Sequence[RunFolder]]]:
    """The packs of each job: one pack, or several with at most `limit` points in total."""
    jobs: list[list[Sequence[RunFolder]]] = []
    for pack in packs:
        if jobs and sum(map(len, jobs[-1])) + len(pack) <= limit:
            jobs[-1].append(pack)
        else:
            jobs.append([pack])
    return jobs
