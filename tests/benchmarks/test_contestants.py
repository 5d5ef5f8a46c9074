"""Contestants on a device that is not the CPU, as the stand-in for a GPU is."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.cases import Case, images_of, specification
from benchmarks.peers import pack, torch_loops
from benchmarks.peers.serving import Contestant, is_out_of_memory
from tests.helpers import stand_in_device
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.training.graphs import GraphedSteps
from vae_sweeps.training.pack import Pack
from vae_sweeps.training.schedule import Schedule

CASES = [
    Case("mlp", ("arch.hidden=[8]", "latent=2", "batch_size=50"), num_images=200),
    Case("mnist_conv", ("experiment=mnist_conv", "posterior=logvar", "batch_size=10"), num_images=40),
]
MAKE = {"pack": pack.make, "tight": torch_loops.make, "bare": torch_loops.make, "vmap": torch_loops.make}


@pytest.fixture(autouse=True)
def _stand_in() -> Iterator[None]:
    with stand_in_device.in_use():
        yield


def _told(case: Case, folder: Path) -> tuple[dict[str, Any], np.ndarray]:
    return specification(case, folder / "images.npy") | {"device": stand_in_device.NAME}, images_of(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("name", MAKE)
def test_a_contestant_trains_on_the_device(case: Case, name: str, tmp_path: Path) -> None:
    contestant: Contestant = MAKE[name](name, *_told(case, tmp_path), 1 if name == "tight" else 2)
    assert contestant.run(2) > 0
    losses = contestant.learn(4)
    assert len(losses) == 4
    assert all(map(np.isfinite, losses)) or name == "bare"


def test_a_run_begins_when_a_graph_is_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[GraphedSteps] = []
    captures: list[Callable[[], None]] = []

    def capture(compute: Callable[[], None]) -> Callable[[], None]:
        captures.append(compute)
        return stand_in_device.captured(compute)

    def new_steps(points: Pack, dataset: Dataset, schedule: Schedule, _: str) -> GraphedSteps:
        made.append(GraphedSteps(points, dataset, schedule, capture))
        return made[-1]

    monkeypatch.setattr("vae_sweeps.training.loop.new_steps", new_steps)
    was_captured: list[bool] = []
    points = pack.Points(*_told(CASES[0], tmp_path), 2)
    points.run(3, begin=lambda: was_captured.append(made[-1].is_captured))
    assert was_captured == [True]
    assert len(captures) == 1


def test_a_contestant_without_memory_says_so(tmp_path: Path) -> None:
    points = pack.Points(*_told(CASES[0], tmp_path), 2)
    points.run(1)
    with stand_in_device.limited(1000), pytest.raises(torch.OutOfMemoryError) as raised:
        points.run(1)
    assert is_out_of_memory(raised.value)
