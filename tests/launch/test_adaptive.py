"""Adaptive searches with Optuna: batches train together, and a search that is started again goes on."""

import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import vae_sweeps
from tests.conftest import Door, launch_here, start_launch, wait_until
from vae_sweeps.config.sweepers import ADAPTIVE_SAMPLERS
from vae_sweeps.launch import study as studies
from vae_sweeps.launch.space import Choices, Interval
from vae_sweeps.runs.run_folder import RunFolder

SPACE = ["beta=tag(log,interval(0.01,10))", "latent=2,5"]
SMALL = ["arch.hidden=[8]", "steps=30", "evaluation=none", "tracker=none"]
SEARCH = ["-m", "hydra/sweeper=adaptive", *SPACE, *SMALL, "sweep=search", "hydra.sweeper.n_jobs=3"]


def trials(n: int) -> str:
    return f"hydra.sweeper.n_trials={n}"


def study_of(out: Path, name: str = "search") -> optuna.Study:
    """The study, as any program reads it that knows nothing of this one."""
    storage = JournalStorage(JournalFileBackend(str(out / "sweeps" / "search" / "study.log")))
    return optuna.load_study(study_name=name, storage=storage)


def values(out: Path) -> dict[str, float]:
    table = vae_sweeps.results(out / "sweeps" / "search")
    return dict(zip(table["run"], table["val/elbo"], strict=True))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with a search of five trials."""
    out = tmp_path_factory.mktemp("searched")
    assert launch_here(*SEARCH, trials(5), f"output_dir={out}") == 0
    return out


def test_optuna_reads_the_study_and_its_values_are_those_of_the_table(searched: Path) -> None:
    study, table = study_of(searched), vae_sweeps.results(searched / "sweeps" / "search")
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 5
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert sorted(trial.values[0] for trial in study.trials) == sorted(table["val/elbo"])
    assert study.best_value == max(table["val/elbo"])
    for trial in study.trials:
        row = table[table["val/elbo"] == trial.values[0]].iloc[0]
        assert row["beta"] == pytest.approx(trial.params["beta"], rel=1e-5)  # of six digits
        assert str(row["latent"]) == trial.params["latent"]


def test_a_batch_trains_in_one_pack(searched: Path) -> None:
    results = [RunFolder(run).read_result() or {} for run in (searched / "runs").iterdir()]
    assert sorted(result["pack_size"] for result in results) == [2, 2, 3, 3, 3]


@pytest.mark.slow
def test_the_same_command_does_nothing_and_a_larger_total_goes_on(door: Door, searched: Path) -> None:
    before = values(searched)
    again = door(*SEARCH, trials(5), f"output_dir={searched}")
    assert again.code == 0
    assert "5 of 5 trials ended" in again.out
    assert "best of 5 trials: trial" in again.out
    more = door(*SEARCH, trials(7), f"output_dir={searched}")
    assert more.code == 0
    assert "trials 6 to 7 of 7" in more.out
    assert len(study_of(searched).trials) == 7
    assert before.items() <= values(searched).items()
    fewer = door(*SEARCH, trials(3), f"output_dir={searched}")
    assert fewer.code == 2
    assert "n_trials=3: the study has 7 trials already" in fewer.err


def test_another_space_is_refused(door: Door, searched: Path) -> None:
    for change in ("latent=2,6", "beta=interval(0.01,10)", "steps=31", "hydra.sweeper.objective=test/elbo"):
        ended = door(*SEARCH, change, trials(50), f"output_dir={searched}")
        assert ended.code == 2
        assert ended.err.startswith("error: study search: was begun with ")
        assert ended.err.count("\n") == 1


def test_a_dry_run_shows_the_next_batch_and_writes_nothing(door: Door, searched: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in searched.rglob("*")}
    ended = door(*SEARCH, trials(50), "dry_run=true", f"output_dir={searched}")
    assert ended.code == 0
    assert "3 points to train in 1 pack" in ended.out
    assert {path: path.stat().st_mtime_ns for path in searched.rglob("*")} == before
    ended = door(*SEARCH, trials(50), "dry_run=true", f"output_dir={tmp_path / 'new'}")
    assert "0 of 50 trials ended; the next batch:" in ended.out
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_repeats_are_seeds_and_their_mean_counts(door: Door, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["hydra.sweeper.repeats=2", "seed=4", "hydra.sweeper.objective=test/elbo", trials(2)]
    assert door(*SEARCH, *options, f"output_dir={out}").code == 0
    table = vae_sweeps.results(out / "sweeps" / "search")
    assert sorted(table["seed"]) == [4, 4, 5, 5]
    means = sorted(fmean(of_beta["test/elbo"]) for _, of_beta in table.groupby("beta"))
    assert sorted(trial.values[0] for trial in study_of(out).trials) == pytest.approx(means, rel=1e-12)


@pytest.mark.slow
def test_stopped_trials_are_pruned(door: Door, tmp_path: Path) -> None:
    out, halving = tmp_path / "out", "hydra.sweeper.halving={min_epochs: 1, reduction_factor: 3}"
    assert (
        door(
            *SEARCH[:-4],
            "sweep=search",
            "epochs=2",
            "steps=null",
            "hydra.sweeper.n_jobs=3",
            *SMALL[2:],
            "arch.hidden=[8]",
            halving,
            trials(3),
            f"output_dir={out}",
        ).code
        == 0
    )
    states = [trial.state for trial in study_of(out).trials]
    assert sorted(states, key=str) == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED]
    assert all(
        len(trial.intermediate_values) == 1 for trial in study_of(out).trials if trial.state == TrialState.PRUNED
    )


@pytest.mark.slow
def test_several_objectives(door: Door, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = door(
        *SEARCH,
        "hydra.sweeper.objective=[val/elbo,num_params]",
        "hydra.sweeper.direction=[maximize,minimize]",
        trials(3),
        f"output_dir={out}",
    )
    assert ended.code == 0
    assert all(len(trial.values) == 2 for trial in study_of(out).trials)
    assert "on the Pareto front of val/elbo, num_params" in ended.out


@pytest.mark.slow
def test_diverged_trials_fail_and_many_of_them_end_the_search(door: Door, tmp_path: Path) -> None:
    out = tmp_path / "out"
    space = [
        "-m",
        "hydra/sweeper=adaptive",
        "beta=1,1e38",
        *SMALL,
        "sweep=search",
        "hydra.sweeper.n_jobs=6",
        "hydra.sweeper.sampler=random",
    ]
    ended = door(*space, trials(6), "hydra.sweeper.max_failure_rate=0", f"output_dir={out}")
    assert ended.code == 2
    assert "max_failure_rate=0: " in ended.err
    states = [trial.state for trial in study_of(out).trials]
    assert {TrialState.COMPLETE, TrialState.FAIL} == set(states)
    assert len(states) == 6


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["hydra.sweeper.objective=test/iwaee"], "objective=test/iwaee: no such column; did you mean test/iwae"),
        (["hydra.sweeper.objective=val/loss"], "objective=val/loss: no such column"),
        (["hydra.sweeper.objective=test/kl"], "neither direction is better; set hydra.sweeper.direction"),
        (["hydra.sweeper.objective=[]"], "must be a column of the table, or a list of columns"),
        (["hydra.sweeper.direction=up"], "must be maximize or minimize"),
        (["hydra.sweeper.direction=[maximize,minimize]"], "must have one for each objective"),
        (["hydra.sweeper.sampler=grid"], "must be one of tpe, random, cmaes, qmc, gp"),
        (["hydra.sweeper.n_trial=3"], "did you mean hydra.sweeper.n_trials?"),
        (["hydra.sweeper.storage=sqlite:////no/such/folder/x.db"], "cannot be opened"),
        (["seed=0,1", "hydra.sweeper.repeats=2"], "seed: must be one value"),
        (["beta=1", "latent=2"], "no key has several values to search"),
        (["beta=interval(-1,1)"], "beta=-1: must be a number >= 0"),
        (["latent=2,0"], "latent=0: must be a whole number >= 1"),
        (["hydra.sweeper.halving.min_epochs=1", "hydra.sweeper.objective=[val/elbo,test/elbo]"], "must be off"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(refused: Callable[..., str], arguments: list[str], line: str) -> None:
    assert line in refused(*SEARCH, *arguments, "dry_run=true")


@pytest.mark.slow
def test_an_objective_that_the_evaluation_does_not_measure_ends_the_search(door: Door, tmp_path: Path) -> None:
    ended = door(*SEARCH, "hydra.sweeper.objective=test/iwae", trials(50), f"output_dir={tmp_path / 'out'}")
    assert ended.code == 2
    assert "objective=test/iwae: is empty for all points of the batch" in ended.err


DIMENSIONS = [
    Interval(("beta",), 0.01, 10.0, is_log=True, is_whole=False),
    Interval(("latent",), 2.0, 64.0, is_log=False, is_whole=True),
    Choices(("arch", "optim.lr"), (("arch=mlp", "optim.lr=0.1"), ("arch=conv", "optim.lr=0.2"))),
    Choices(("seed",), (("seed=3",),), is_swept=False),
]


def asked(study: optuna.Study, sampler: str, number: int) -> list[tuple[str, ...]]:
    """The overrides of the next batch."""
    study.sampler = studies.new_sampler(sampler, 0, len(study.trials))
    batch = [study.ask(studies.distributions(DIMENSIONS)) for _ in range(number)]
    return [tuple(studies.overrides_of(DIMENSIONS, trial.params)) for trial in batch]


@pytest.mark.parametrize("sampler", ADAPTIVE_SAMPLERS)
def test_samplers_draw_different_points_of_the_space(sampler: str) -> None:
    study, found = studies.in_memory(["maximize"]), list[tuple[str, ...]]()
    for _ in range(4):
        batch = asked(study, sampler, 5)
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(trial.number, -abs(math.log(trial.params["beta"])))
        found += batch
    assert len(set(found)) == len(found) == 20
    for beta, latent, arch, rate, seed in found:
        assert 0.01 <= float(beta.removeprefix("beta=")) <= 10
        assert int(latent.removeprefix("latent=")) in range(2, 65)
        assert (arch, rate) in DIMENSIONS[2].rows
        assert seed == "seed=3"


def test_tpe_goes_where_values_are_good() -> None:
    study, last = studies.in_memory(["maximize"]), list[float]()
    for _ in range(8):
        asked(study, "tpe", 8)
        running = study.get_trials(states=(TrialState.RUNNING,))
        last = [trial.params["beta"] for trial in running]
        for trial in running:
            study.tell(trial.number, -abs(math.log10(trial.params["beta"])))
    assert fmean(abs(math.log10(beta)) for beta in last) < 0.5  # the mean of a random batch is 0.83


def test_a_new_process_draws_what_the_old_one_would_have_drawn() -> None:
    studied, again = studies.in_memory(["maximize"]), studies.in_memory(["maximize"])
    first = asked(studied, "random", 3)
    assert first == asked(again, "random", 3)
    assert asked(studied, "random", 3) == asked(studies.copy_in_memory(again), "random", 3) != first


def test_trials_of_a_killed_process_are_known_by_their_parameters() -> None:
    study = studies.in_memory(["maximize"])
    (overrides,) = asked(study, "random", 1)
    half = study.ask({"beta": studies.distributions(DIMENSIONS)["beta"]})  # killed while it was asked for
    found = studies.unfinished(study, DIMENSIONS)
    assert tuple(found[0]) == overrides
    assert found[half.number][0].startswith(f"beta={half.params['beta']:.3g}"[:9])
    assert [override.partition("=")[0] for override in found[half.number]] == [
        "beta",
        "latent",
        "arch",
        "optim.lr",
        "seed",
    ]
    assert studies.unfinished(study, DIMENSIONS) == found
    assert studies.num_ended(study) == 0
    assert set(map(tuple, found.values())).isdisjoint(asked(study, "random", 5))  # no trial is drawn again


@pytest.mark.slow
@pytest.mark.parametrize("num_results", [1, 4])
def test_a_killed_search_ends_with_all_its_trials(tmp_path: Path, num_results: int) -> None:
    out = tmp_path / "out"
    command = [*SEARCH, "steps=300", trials(6), f"output_dir={out}"]
    process = start_launch(*command)
    wait_until(lambda: len(list(out.glob("runs/*/result.json"))) >= num_results, process)
    process.kill()
    process.wait()
    first = {trial.number: trial.params for trial in study_of(out).trials}
    assert start_launch(*command).wait(120) == 0
    study = study_of(out)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 6
    assert all(params.items() <= study.trials[number].params.items() for number, params in first.items())
    assert len(values(out)) == 6
