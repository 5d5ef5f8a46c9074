"""Worker processes get the GPUs of their slot by the names that the launch was given."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import make_options
from vae_sweeps.launch.job import Job
from vae_sweeps.launch.side_by_side import run_side_by_side


@dataclass
class Witness(Job):
    """A job that does nothing but write down which GPUs it may use."""

    file: Path = Path()

    def __call__(self) -> None:
        import os

        self.file.write_text(os.environ["CUDA_VISIBLE_DEVICES"])


@pytest.mark.slow
@pytest.mark.parametrize("names", [["GPU-8932f937-d72c", "MIG-7c4b1a90"], ["6", "3"]])
def test_workers_get_the_very_names(names: list[str], tmp_path: Path) -> None:
    files = [tmp_path / f"seen{number}" for number in range(2)]
    jobs = [Witness([], [], None, make_options(), file=file) for file in files]
    run_side_by_side(jobs, 2, tmp_path / "jobs", lambda: False, names)
    assert [file.read_text() for file in files] == names


@pytest.mark.slow
def test_without_gpus_workers_see_none(tmp_path: Path) -> None:
    run_side_by_side([Witness([], [], None, make_options(), file=tmp_path / "seen")], 1, tmp_path / "jobs", bool, [])
    assert (tmp_path / "seen").read_text() == ""
