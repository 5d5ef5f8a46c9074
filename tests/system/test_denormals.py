"""Training computes with 0 in place of numbers so small that processors are slow with them."""

import subprocess
import sys

import pytest
import torch

from tests.conftest import ROOT, make_dataset, make_point
from tests.helpers.training import train_points
from vae_sweeps.training.loop import TrainOptions

pytestmark = pytest.mark.skipif(not torch.set_flush_denormal(False), reason="not possible on this processor")

IN_TWO_THREADS = """
import torch
from vae_sweeps.system import machine
torch.set_num_threads(2)
machine.prepare()
small = torch.full((1 << 20,), 1e-39)
print(int((small * 1).count_nonzero()) > 0)
with machine.denormals_flushed():
    print(int((small * 1).count_nonzero()))
"""


def is_flushed() -> bool:
    return (torch.full((1,), 1e-39) * 1).item() == 0


def test_all_threads_of_a_prepared_process_flush_them() -> None:
    done = subprocess.run([sys.executable, "-c", IN_TWO_THREADS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n0\n"


def test_only_training_flushes_them(in_folders) -> None:
    flushed: list[bool] = []

    def note() -> bool:
        flushed.append(is_flushed())
        return False

    train_points(
        [make_point("steps=3", "batch_size=8")], in_folders(1), make_dataset(), options=TrainOptions(should_stop=note)
    )
    assert flushed == [True] * 3
    assert not is_flushed()
