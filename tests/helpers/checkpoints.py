"""The tensors of checkpoints, to compare."""

from torch import Tensor

from vae_sweeps.runs.checkpoint import Checkpoint


def tensors_of(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """All weights, buffers and moments, by name."""
    moments = {f"{kind} of {name}": t for kind, by_name in checkpoint.moments.items() for name, t in by_name.items()}
    return checkpoint.model | moments
