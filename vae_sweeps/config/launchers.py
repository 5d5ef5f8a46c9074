"""The schemas of hydra/launcher, which chooses where a sweep trains."""

from dataclasses import dataclass
from typing import Any

from vae_sweeps.config.fields import at_least, free, key, or_null


def _auto_or_number() -> Any:
    return key("auto, or a whole number >= 1", lambda v: v == "auto" if isinstance(v, str) else v >= 1)


@dataclass
class LocalLauncher:
    """Train on this machine, in this process or in several worker processes."""

    _target_: str = free("a launcher")
    workers: int | str = _auto_or_number()


def _text_or_null() -> Any:
    return free("a string, or null")


@dataclass
class SlurmLauncher:
    """How a sweep is split into jobs, and the resources of each job; everything that submitit can pass to SLURM."""

    _target_: str = free("a launcher")
    packs: int | str = _auto_or_number()
    points_per_job: int | None = or_null(1)
    elastic: bool = free("true or false")
    wait: bool = free("true or false")
    snapshot: bool = free("true or false")
    max_num_timeout: int = at_least(0, "a whole number")
    max_num_successors: int = at_least(0, "a whole number")

    timeout_min: int = at_least(1, "a whole number")
    cpus_per_task: int = at_least(1, "a whole number")
    nodes: int = at_least(1, "a whole number", default=1)
    mem_gb: float | None = key("a number > 0, or null", lambda v: v is None or 0 < v < float("inf"))
    gpus_per_node: int | None = or_null(0)
    gres: str | None = _text_or_null()
    partition: str | None = _text_or_null()
    account: str | None = _text_or_null()
    qos: str | None = _text_or_null()
    constraint: str | None = _text_or_null()
    nodelist: str | None = _text_or_null()
    exclude: str | None = _text_or_null()
    exclusive: bool | None = free("true, false or null")
    dependency: str | None = _text_or_null()
    comment: str | None = _text_or_null()
    array_parallelism: int = at_least(1, "a whole number")
    signal_delay_s: int = at_least(1, "a whole number")
    python: str | None = _text_or_null()
    container: str | None = _text_or_null()
    container_args: list[str] = free("a list of options of apptainer exec")
    setup: list[str] = free("a list of shell lines")
    srun_args: list[str] = free("a list of srun options")
    additional_parameters: dict[str, Any] = free("sbatch options by name")
    resources: dict[str, Any] = free("settings by architecture, such as {conv: {mem_gb: 32}}")
