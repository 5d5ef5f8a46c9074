"""Devices to test on: a GPU if there is one, and always a stand-in, which also shows that these tests work."""

from collections.abc import Iterator

import pytest
import torch

from tests.helpers import stand_in_device
from vae_sweeps.system import machine


@pytest.fixture
def stand_in() -> Iterator[torch.device]:
    if not stand_in_device.IS_POSSIBLE:
        pytest.skip(f"torch {torch.__version__} has no devices that are written in Python")
    with stand_in_device.in_use() as device:
        yield device


@pytest.fixture(params=[stand_in_device.NAME, pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device of a test that runs once on each."""
    if request.param == "cuda":
        machine.prepare()  # as each job does
        return torch.device("cuda", torch.cuda.current_device())
    return request.getfixturevalue("stand_in")


@pytest.fixture
def is_gpu(device: torch.device) -> bool:
    return device.type == "cuda"
