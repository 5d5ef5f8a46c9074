"""The settings of a job whose packs train in several tasks, on one node or on several."""

from dataclasses import replace

from vae_sweeps.config.launchers import SlurmLauncher

# srun does not take over the CPUs of a task from sbatch (since SLURM 22.05): where tasks are bound to cores, each would
# run on one. A line of the user's own setup may set it again.
CPUS_FOR_SRUN = 'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"'


def spread(settings: SlurmLauncher, devices: int) -> SlurmLauncher:
    """The settings of jobs that train in `devices` tasks on `nodes` nodes; those given are for one task.

    SLURM counts GPUs and memory by node, so both are multiplied by the tasks of a node. A task that dies ends all.
    Raises ValueError if the tasks cannot be spread evenly.
    """
    if devices % settings.nodes:
        raise ValueError(
            f"hydra.launcher.nodes={settings.nodes}: must divide devices={devices}, since every node gets as many tasks"
        )
    if devices == 1:
        return settings
    per_node = devices // settings.nodes
    return replace(
        settings,
        gpus_per_node=settings.gpus_per_node and settings.gpus_per_node * per_node,
        gres=settings.gres and times(settings.gres, per_node),
        mem_gb=settings.mem_gb and settings.mem_gb * per_node,
        srun_args=[*settings.srun_args, "--kill-on-bad-exit=1"],
    )


def times(gres: str, factor: int) -> str:
    """The list of resources with its GPUs multiplied: gpu:a100:1,lscratch:50 becomes gpu:a100:2,lscratch:50."""
    return ",".join(_times(entry.strip(), factor) for entry in gres.split(","))


def _times(entry: str, factor: int) -> str:
    name, *more = entry.split(":")
    if name not in ("gpu", "gres/gpu"):
        return entry
    kind, number = (more[:-1], int(more[-1])) if more and more[-1].isdigit() else (more, 1)
    return ":".join([name, *kind, str(number * factor)])
