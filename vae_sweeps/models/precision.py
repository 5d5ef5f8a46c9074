"""Data types of training, and the precision of matrix products."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

# The data type of weights, moments and the loss; tf32 and bf16 only change how products are computed.
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


@contextlib.contextmanager
def computing(precision: str, device: torch.device) -> Iterator[None]:
    """Compute products in `precision`: tf32 rounds factors to 10 bits on an NVIDIA GPU, bf16 to 7 on any device."""
    if device.type == "cpu" and precision != "bf16":
        yield  # nothing to set
        return
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext():
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
