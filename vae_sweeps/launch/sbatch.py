"""Hand jobs to SLURM through submitit: what jobs of a kind ask for, how many fit, and what sbatch's refusals mean."""

import contextlib
import io
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import clean_env

from vae_sweeps.config.keys import as_typed
from vae_sweeps.config.launchers import SlurmLauncher
from vae_sweeps.config.secrets import hide
from vae_sweeps.launch.job_request import REQUEUE_CODE, JobRequest
from vae_sweeps.launch.tasks import CPUS_FOR_SRUN
from vae_sweeps.runs import job_files
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files, lease, private, slurm

# Settings that apply to all jobs of a sweep.
OF_THE_SWEEP = ("_target_", "packs", "points_per_job", "elastic", "wait", "snapshot", "nodes", "resources")

# Keys of the launcher that are not parameters of submitit's executor, or have another name there.
_NOT_PARAMETERS = (
    *OF_THE_SWEEP, "max_num_timeout", "max_num_successors", "timeout_min", "mem_gb", "python", "container",
    "container_args",
)  # fmt: skip

# Refusals that come from the number of jobs: there is room later.
_LIMIT = re.compile(r"submit ?job|submit limit|array specification|array index|temporarily", re.IGNORECASE)

# Which settings sbatch's words are about, the more particular ones first.
_MEANT: Sequence[tuple[str, Sequence[str]]] = [
    (r"\baccount\b", ("account", "partition")),
    (r"partition", ("partition",)),
    (r"\bqos\b(?!.*policy)", ("qos",)),
    (r"time limit|wall", ("timeout_min",)),
    (r"generic resource|gres", ("gres", "gpus_per_node")),
    (r"feature|constraint", ("constraint",)),
    (r"node name|nodes? .*unknown", ("nodelist", "exclude")),
    (r"memory", ("mem_gb",)),
    (r"dependency", ("dependency",)),
    (r"cpu count|cpus", ("cpus_per_task",)),
    (r"node configuration", ("cpus_per_task", "mem_gb", "gpus_per_node", "gres", "constraint")),
]


def check(request: JobRequest) -> None:
    """Raise ValueError, with the words of sbatch, if SLURM would reject such jobs."""
    settings = request.settings
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise ValueError("hydra/launcher=slurm: no sbatch on this machine; use a login node, or hydra/launcher=local")
    if settings.signal_delay_s >= 60 * settings.timeout_min:
        raise ValueError(
            f"hydra.launcher.signal_delay_s={settings.signal_delay_s}: must be shorter than the time limit, "
            f"timeout_min={settings.timeout_min}; use a longer time limit"
        )
    with tempfile.TemporaryDirectory() as folder, _outside_of_a_job():
        script = Path(folder) / "check.sh"
        checked = replace(request, folder=Path(folder), settings=replace(settings, container=None))  # it runs nothing
        private.write(script, _executor(checked)._make_submission_file_text("true", ""))
        words = slurm.refusal(script)
    if words and not _LIMIT.search(words):
        raise ValueError(f"hydra/launcher=slurm: sbatch rejects such a job: {_explained(words, settings)}")


def submit(request: JobRequest, jobs: Sequence[Any], *, is_full: bool = False) -> tuple[list[str], str]:
    """Submit `jobs` in arrays as large as the site allows; if its queue `is_full`, begin with one job.

    Returns the ids of those that were submitted, in the same order, and sbatch's words if it takes no more for now,
    else "". Raises ValueError with the words of sbatch for a refusal that does not come from the number of jobs, if
    nothing was submitted.
    """
    largest, tasks = slurm.max_array_size(), list[str]()
    size = 1 if is_full else largest
    # One process at a time, which may then remove what submitit writes for a job that is refused.
    with lease.wait_for(request.folder.parent, SweepFolder.SUBMITTING):
        while len(tasks) < len(jobs):
            chunk = jobs[len(tasks) : len(tasks) + size]
            try:
                tasks += slurm.patiently(lambda chunk=chunk: _submit_array(request, chunk))
                size = min(2 * size, largest) if is_full else size
            except (FailedJobError, FailedSubmissionError) as error:
                words = _explained(str(error), request.settings)
                if not _LIMIT.search(words) and not tasks:
                    raise ValueError(f"sbatch: {words}") from error
                if not _LIMIT.search(words) or len(chunk) == 1:
                    return tasks, words
                size, is_full = len(chunk) // 2, False
    return tasks, ""


@contextlib.contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """Hide the variables of a job that this process runs in: they would apply to the jobs that it submits.

    The site's and the user's own settings stay, such as SLURM_CONF and SBATCH_ACCOUNT, which `clean_env` removes too.
    """
    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    own = {
        name: value
        for name, value in os.environ.items()
        if name == "SLURM_CONF" or (name.startswith("SBATCH_") and "_BIND" not in name)
    }
    with clean_env():
        os.environ.update(own)
        yield


def _submit_array(request: JobRequest, jobs: Sequence[Any]) -> list[str]:
    executor, before = _executor(request), job_files.unnumbered(request.folder)
    try:
        # submitit prints what sbatch says; we do so too, in one line.
        with _outside_of_a_job(), contextlib.redirect_stderr(io.StringIO()), executor.batch():
            submitted = [executor.submit(job) for job in jobs]
    except Exception:
        for path in job_files.unnumbered(request.folder) - before:
            path.unlink(missing_ok=True)
        raise
    finally:
        private.close_files(request.folder)
    return [job.job_id for job in submitted]


def _explained(words: str, settings: SlurmLauncher) -> str:
    """What sbatch says, in one line, with the settings that it is about."""
    lines = [re.sub(r"^(sbatch: |error: )+", "", line).strip() for line in words.splitlines()]
    text = "; ".join(line for line in lines if line) or "no reason given"
    for pattern, keys in _MEANT:
        if re.search(pattern, text, re.IGNORECASE):
            values = {key: getattr(settings, key) for key in keys}
            given = [f"hydra.launcher.{key}={as_typed(value)}" for key, value in values.items() if value is not None]
            return f"{text} ({', '.join(given)})" if given else text
    return text


def _executor(request: JobRequest) -> Any:
    settings = request.settings
    given = {key: value for key, value in asdict(settings).items() if value not in (None, False, [], {})}
    chosen = {key: value for key, value in given.items() if key not in _NOT_PARAMETERS}
    executor = submitit.SlurmExecutor(
        folder=request.folder, max_num_timeout=settings.max_num_timeout, python=_python(request)
    )
    extra = {"requeue": True, "open-mode": "append", **settings.additional_parameters}
    if "no-requeue" in extra:
        del extra["requeue"]
    chosen |= {"additional_parameters": extra, "setup": _setup(request), "teardown": _TEARDOWN}
    chosen |= {"job_name": request.name, "time": settings.timeout_min}
    # One log file: that of the script, to which srun passes on what all tasks print.
    chosen |= {"stderr_to_stdout": True, "srun_args": ["--output=all", *settings.srun_args]}
    if request.tasks > 1:
        chosen |= {"nodes": settings.nodes, "ntasks_per_node": request.tasks // settings.nodes}
    if settings.mem_gb is not None:
        chosen["mem"] = f"{round(1024 * settings.mem_gb)}MB"
    executor.update_parameters(**chosen)
    return executor


_TEARDOWN = [
    "code=$?",
    f'if [ $code -eq {REQUEUE_CODE} ]; then scontrol requeue "$SLURM_JOB_ID"; fi',
    "exit $code",
]


def _setup(request: JobRequest) -> list[str]:
    """The shell lines before srun. The user's lines end the job if they fail."""
    lines = [CPUS_FOR_SRUN, *map(_checked, request.settings.setup)]
    if request.code is not None:
        # By itself, `python -m` looks for modules in the current folder first, which is often the checkout.
        code = shlex.quote(str(request.code))
        lines += ["export PYTHONSAFEPATH=1", f"export PYTHONPATH={code}:$PWD:$PYTHONPATH"]
    elif request.settings.container is not None:
        lines.append(f"export PYTHONPATH={shlex.quote(str(files.ROOT))}:$PYTHONPATH")
    return lines


def _checked(line: str) -> str:
    """The line, after which the job ends if it fails. The braces also take lines that end in a comment."""
    words = shlex.quote(f"error: this line of hydra.launcher.setup failed: {' '.join(hide(line).split())}")
    return f'{{\n{line}\n}} || {{ code=$?; echo {words} "(exit code $code)" >&2; exit $code; }}'


def _python(request: JobRequest) -> str | None:
    """The command that runs Python in the job: the settings' interpreter, in a container if there is one."""
    settings = request.settings
    if settings.container is None:
        return settings.python
    python = settings.python or "python3"
    nv = ["--nv"] if request.asks_for_gpu else []
    folders = dict.fromkeys([str(files.ROOT), str(request.code or files.ROOT), str(_output_dir(request))])
    command = ["apptainer", "exec", *nv, "--bind", ",".join(folders), *settings.container_args, settings.container]
    return f"{shlex.join(command)} {python}"


def _output_dir(request: JobRequest) -> Path:
    """The output folder: jobs are below <output_dir>/sweeps/<sweep>/."""
    return request.folder.resolve().parents[2]
