"""Devices to test on: a GPU where there is one, and everywhere a stand-in, which tests these tests themselves."""

import pytest
import torch

from tests.helpers import stand_in_device

on_gpu = pytest.mark.gpu
both = [stand_in_device.NAME, pytest.param("cuda", marks=on_gpu)]


@pytest.fixture(params=both)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The device of a test that runs once on each."""
    if request.param == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    monkeypatch.setattr(torch, "Generator", stand_in_device.Generator)
    return stand_in_device.device()


@pytest.fixture
def is_gpu(device: torch.device) -> bool:
    return device.type == "cuda"
