"""Which GPU a process uses. Pure functions, without torch."""

from collections.abc import Sequence


def visible(variable: str | None, num_seen: int) -> list[str]:
    """The names of the GPUs that processes on this machine may be given through CUDA_VISIBLE_DEVICES.

    `variable` is that variable in this process (None: not set), and `num_seen` is how many GPUs CUDA finds here. Names
    may be indices, UUIDs (GPU-...) or MIG instances (MIG-...); they are kept as they are written.
    """
    if num_seen == 0:
        return []
    if variable is None:
        return [str(index) for index in range(num_seen)]
    names = [name.strip() for name in variable.split(",")]
    if names[0].startswith("MIG"):
        return [name for name in names if name]  # a process finds the first of them only, whatever their number
    return names[:num_seen]  # CUDA ignores what follows a name that it does not know, such as -1


def of_slot(gpus: Sequence[str], slot: int, devices: int) -> list[str]:
    """The GPUs of the job in a slot, whose `devices` processes each use one; slots share GPUs if there are too few."""
    return [gpus[(slot * devices + number) % len(gpus)] for number in range(devices)] if gpus else []


def of_rank(local_rank: int, ranks_on_node: int, num_seen: int) -> int:
    """The index of the GPU of a rank: its own if it sees one for each rank of its node, 0 if it sees one alone.

    Raises ValueError if it sees another number of GPUs than that.
    """
    if num_seen == 1:
        return 0
    if num_seen < ranks_on_node:
        raise ValueError(
            f"task {local_rank} of {ranks_on_node} on this node sees {num_seen} GPUs: must be one, or one for each "
            "task of the node; see hydra.launcher.gpus_per_node and gres"
        )
    return local_rank
