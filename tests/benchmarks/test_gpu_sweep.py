"""The benchmark of a whole sweep on a GPU, on a CPU and few images."""

import argparse
from pathlib import Path

import pytest

from benchmarks.gpu import sweep
from tests.helpers.idx_files import small_arrays, write_files


@pytest.mark.slow
def test_a_sweep_and_single_runs_are_timed_from_the_command_to_the_report(tmp_path: Path) -> None:
    root = write_files(tmp_path / "digits", small_arrays())
    few = argparse.Namespace(root=str(root), device="cpu", epochs=1, seeds=1, max_pack=8, singles=1)
    found = sweep.measure(few, tmp_path)
    assert found["num_points"] == found["num_done"] == 32
    assert found["sweep_s"] > found["training_s"] > 0
    assert found["all_single_s"] == pytest.approx(32 * found["single_s"][0])
    assert (tmp_path / "sweep" / "sweeps" / "whole" / "report.html").exists()
