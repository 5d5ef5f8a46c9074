"""`vae-sweeps list`."""

from pathlib import Path

import pytest

from tests.conftest import ended_command, make_options, make_point
from tests.helpers.written_sweep import ELBO, done
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder


def _make_sweep(output_dir: Path, name: str, *, num_done: int, launched_at: str) -> None:
    runs = [RunFolder.under(output_dir, f"{name}-beta{beta}-{beta:012x}") for beta in range(3)]
    for beta, run in enumerate(runs):
        run.create(make_point("data=mnist5k", f"beta={beta}"), make_options(), [])
        if beta < num_done:
            run.write_result(done(ELBO))
    sweep = SweepFolder.under(output_dir, name)
    sweep.add([run.name for run in runs], ["beta"])
    sweep.log_launch({"at": launched_at, "command": ["launch.py"], "new": []})


def test_list_shows_points_size_launch_and_states_with_the_latest_launch_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _make_sweep(tmp_path, "earlier", num_done=3, launched_at="2026-01-02T03:04:05+0000")
    _make_sweep(tmp_path, "later", num_done=1, launched_at="2026-02-03T04:05:06+0000")
    (tmp_path / "runs" / "earlier-beta0-000000000000" / "checkpoint.pt").write_bytes(bytes(5_000_000))
    ended = ended_command(capsys, "list", "--output-dir", tmp_path)
    assert ended.code == 0, ended
    header, first, second = ended.out.splitlines()
    assert header.split() == ["SWEEP", "POINTS", "SIZE", "LAST", "LAUNCH", "STATES"]
    assert first.split()[:2] == ["later", "3"]
    assert first.endswith("2026-02-03 04:05  1 done, 2 pending")
    assert second.split()[:2] == ["earlier", "3"]
    assert second.endswith("2026-01-02 03:04  3 done")
    assert float(second.split()[2]) == pytest.approx(5.0, abs=0.1)  # MB


def test_list_of_a_folder_without_sweeps_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = ended_command(capsys, "list", "--output-dir", tmp_path)
    assert (ended.code, ended.out) == (0, f"{tmp_path} has no sweeps\n")
