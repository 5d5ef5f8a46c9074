"""Number types of training, and how matrix products are computed."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

# What weights, moments and the loss are kept in; tf32 and bf16 are how products are computed.
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


@contextlib.contextmanager
def computing(precision: str, device: torch.device) -> Iterator[None]:
    """How products are computed in here: tf32 rounds their factors to 10 bits on an NVIDIA GPU, bf16 to 7 anywhere."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
