"""An adaptive search whose batches are jobs of a real SLURM."""

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import vae_sweeps
from tests.conftest import launch, start_launch, wait_until
from tests.helpers.slurm_cluster import Cluster
from tests.helpers.slurm_sweeps import NEEDS_SLURM, SLURM, SMALL, running_cluster
from vae_sweeps.runs.run_folder import RunFolder, runs_folder

pytestmark = NEEDS_SLURM

SPACE = ["beta=tag(log,interval(0.01,10))", "latent=2,5", "optim.lr=tag(log,interval(1e-4,1e-2))"]
SEARCH = ["-m", "hydra/sweeper=adaptive", *SPACE, *SMALL, "steps=200", "sweep=search", "hydra.sweeper.n_jobs=4"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as up:
        yield up


@pytest.mark.usefixtures("cluster")
def test_a_search_that_is_killed_between_batches_ends_with_the_same_study(tmp_path: Path) -> None:
    command = [*SEARCH, *SLURM, "hydra.sweeper.n_trials=12", f"output_dir={tmp_path}"]
    journal = tmp_path / "sweeps" / "search" / "study.log"

    def trials() -> list[optuna.trial.FrozenTrial]:
        if not journal.exists():
            return []
        return optuna.load_study(study_name="search", storage=JournalStorage(JournalFileBackend(str(journal)))).trials

    process = start_launch(*command)
    wait_until(lambda: sum(trial.state == TrialState.COMPLETE for trial in trials()) == 4, process)
    process.kill()
    process.wait()
    before = {trial.number: trial.params for trial in trials()}
    ended = launch(*command)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert [trial.state for trial in trials()] == [TrialState.COMPLETE] * 12
    assert all(params.items() <= trials()[number].params.items() for number, params in before.items())
    results = [RunFolder(path).read_result() or {} for path in runs_folder(tmp_path).iterdir()]
    assert [result["pack_size"] for result in results] == [4] * 12
    table = vae_sweeps.results(tmp_path / "sweeps" / "search")
    assert sorted(table["val/elbo"]) == sorted(trial.values[0] for trial in trials())
