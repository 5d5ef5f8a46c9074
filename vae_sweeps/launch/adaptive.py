"""An adaptive search: ask Optuna for a batch of trials, train them together, and tell it their values."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from vae_sweeps.config.errors import RefusedError
from vae_sweeps.config.sweepers import AdaptiveSweeper
from vae_sweeps.launch import entry
from vae_sweeps.launch.door import checking
from vae_sweeps.launch.grid import SETTINGS, Space, checked_settings, read_space
from vae_sweeps.launch.request import Launch
from vae_sweeps.launch.space import Choices, Dimension
from vae_sweeps.runs import catalogue
from vae_sweeps.runs.run_folder import STOPPED
from vae_sweeps.system import lease
from vae_sweeps.system.logs import count

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Search:
    """A search: what it asks of Optuna, and how the points of a trial are launched."""

    config_loader: ConfigLoader
    config: DictConfig
    space: Space
    settings: AdaptiveSweeper

    @property
    def dimensions(self) -> Sequence[Dimension]:
        return self.space.grids[0]

    @property
    def objectives(self) -> list[str]:
        """The columns that are optimised."""
        given = self.settings.objective
        return [given] if isinstance(given, str) else list(given)

    def jobs_of(self, overrides: Sequence[str]) -> list[list[str]]:
        """The points of a trial: one for each seed."""
        if self.settings.repeats == 1:
            return [list(overrides)]
        given = next((override for override in overrides if override.startswith("seed=")), f"seed={self.config.seed}")
        first = int(given.removeprefix("seed="))
        others = [override for override in overrides if override != given]
        return [[*others, f"seed={first + n}"] for n in range(self.settings.repeats)]

    def launch_of(self, trials: Sequence[Sequence[str]]) -> Launch:
        """The launch of the trials' points."""
        jobs = [job for overrides in trials for job in self.jobs_of(overrides)]
        launch = entry.make_launch(self.config_loader, self.config, jobs)
        seeds = ["seed"] if self.settings.repeats > 1 else []
        return replace(launch, swept=[*launch.swept, *seeds], is_batch=True)

    def values(self, results: Sequence[Mapping[str, Any] | None]) -> list[float] | None:
        """A trial's objectives, as means over its seeds; None if one of its points has no number."""
        found = []
        for column in self.objectives:
            numbers = [catalogue.number_of(result, column) for result in results]
            if None in numbers:
                return None
            found.append(fmean(number for number in numbers if number is not None))
        return found


def search(config_loader: ConfigLoader, config: DictConfig, arguments: Sequence[str]) -> None:
    """Go on until the study has as many trials as the command wants, and show all points."""
    with checking():
        settings = checked_settings(config.hydra.sweeper)
        assert isinstance(settings, AdaptiveSweeper)
        space = read_space(config_loader, config, arguments)
        found = _Search(config_loader, config, space, settings)
        directions = _directions(found)
        _check(found)
        try:
            from vae_sweeps.launch import study as studies
        except ImportError as error:
            what = "hydra/sweeper=adaptive: needs Optuna; install it with pip install 'vae-sweeps[search]'"
            raise ValueError(f"{what} ({error})") from None
        launch = found.launch_of(_examples(found.dimensions))  # checks all values before work starts
        n_jobs = settings.n_jobs or max(1, _points_per_pack(launch) // settings.repeats)
    assert launch.sweep is not None
    folder, name = launch.sweep.path, settings.study_name or launch.sweep.name
    about = {**space.content(), "objective": settings.objective, "direction": directions, "repeats": settings.repeats}
    described = settings.storage or str(launch.sweep.study), name, directions, about
    if launch.options.dry_run:
        with checking():
            study = studies.read_study(*described)
        _dry_run(found, study, n_jobs)
    folder.mkdir(parents=True, exist_ok=True)
    turn = lease.take(folder, launch.sweep.SEARCHING)
    if turn is None:
        raise RefusedError(f"{folder.name}: another process carries out this search; wait for it, or stop it")
    with turn:
        with checking():
            study = studies.open_study(*described)
            if (ended := studies.num_ended(study)) > settings.n_trials:
                given = f"{SETTINGS}.n_trials={settings.n_trials}"
                raise ValueError(
                    f"{given}: the study has {ended} trials already; must be at least that, as it is a total"
                )
        log.info("study %s: %d of %s ended", name, ended, count(settings.n_trials, "trial"))
        _go_on(found, study, n_jobs)
    _show(found, study, launch)


def _go_on(found: _Search, study: Any, n_jobs: int) -> None:
    """Train batches until the study has all its trials."""
    from vae_sweeps.launch import study as studies

    while (ended := studies.num_ended(study)) < found.settings.n_trials:
        study.sampler = _sampler_of(found, study)
        batch = studies.unfinished(study, found.dimensions)
        batch |= _asked(found, study, min(n_jobs, found.settings.n_trials - ended) - len(batch))
        _train(found, study, batch)


def _sampler_of(found: _Search, study: Any) -> Any:
    """The sampler for the next trials of the study."""
    from vae_sweeps.launch.study import new_sampler

    return new_sampler(found.settings.sampler, found.settings.seed, len(study.trials))


def _asked(found: _Search, study: Any, number: int) -> dict[int, list[str]]:
    """New trials, by number, and the overrides of their points, which the study keeps for readers."""
    from vae_sweeps.launch import study as studies

    batch = {}
    for _ in range(number):
        trial = study.ask(studies.distributions(found.dimensions))
        batch[trial.number] = studies.overrides_of(found.dimensions, trial.params)
        trial.set_user_attr(studies.OVERRIDES, batch[trial.number])
    return batch


def _train(found: _Search, study: Any, batch: Mapping[int, Sequence[str]]) -> None:
    """Train the trials of a batch, and tell the study what became of them."""
    from optuna.trial import TrialState

    from vae_sweeps.launch.carry_out import carry_out

    numbers, repeats = list(batch), found.settings.repeats
    log.info("trials %s of %d", _range(numbers), found.settings.n_trials)
    ended = carry_out(found.launch_of([batch[number] for number in numbers]), may_detach=False)
    assert ended is not None
    num_failed, has_numbers = 0, False
    for i, number in enumerate(numbers):
        results = [result for _, result in ended[i * repeats : (i + 1) * repeats]]
        values = found.values(results)
        states = {None if result is None else result["status"] for result in results}
        has_numbers |= values is not None
        if values is None or not states <= {"done", STOPPED}:
            num_failed += 1
            log.warning("trial %d failed, diverged or has no %s", number + 1, ", ".join(found.objectives))
            study.tell(number, state=TrialState.FAIL)
        elif STOPPED in states:
            _report(study, number, values[0], max(int((result or {})["step"]) for result in results))
            study.tell(number, state=TrialState.PRUNED)
        else:
            study.tell(number, values)
    if not has_numbers and any(result is not None and result["status"] == "done" for _, result in ended):
        names = ", ".join(found.objectives)
        raise RefusedError(
            f"{SETTINGS}.objective={names}: is empty for all points of the batch; choose an evaluation that measures it"
        )
    if num_failed > found.settings.max_failure_rate * len(numbers):
        given = f"{SETTINGS}.max_failure_rate={found.settings.max_failure_rate:g}"
        trials = f"{num_failed} of {count(len(numbers), 'trial')}"
        raise RefusedError(f"{given}: {trials} failed, diverged or have no number; the same command goes on")


def _report(study: Any, number: int, value: float, step: int) -> None:
    """Let the study know the last value of a trial that was stopped."""
    from vae_sweeps.launch.study import running

    (frozen,) = (trial for trial in study.get_trials(deepcopy=False) if trial.number == number)
    running(study, frozen).report(value, step)


def _range(numbers: Sequence[int]) -> str:
    first, last = min(numbers) + 1, max(numbers) + 1
    return str(first) if first == last else f"{first} to {last}"


def _directions(found: _Search) -> list[str]:
    """Which direction of each objective is better. Raises ValueError if a column does not exist or has none."""
    given = found.settings.direction
    directions = [given] * len(found.objectives) if isinstance(given, str) else given
    if directions is not None and len(directions) != len(found.objectives):
        raise ValueError(f"{SETTINGS}.direction={given}: must have one for each objective")
    better = []
    for column in found.objectives:
        try:
            metric = catalogue.of_table(column)
        except ValueError as error:
            raise ValueError(f"{SETTINGS}.objective={error}") from None
        if directions is None and metric.better is None:
            raise ValueError(f"{SETTINGS}.objective={column}: neither direction is better; set {SETTINGS}.direction")
        better.append({"higher": "maximize", "lower": "minimize"}.get(str(metric.better), ""))
    return list(directions or better)


def _check(found: _Search) -> None:
    """Raise ValueError for settings that contradict each other."""
    settings = found.settings
    swept = found.space.swept
    if not swept:
        raise ValueError("hydra/sweeper=adaptive: no key has several values to search")
    if settings.repeats > 1 and "seed" in swept:
        raise ValueError(f"seed: must be one value with {SETTINGS}.repeats={settings.repeats}, which counts from it")
    if settings.halving.min_epochs is not None and len(found.objectives) > 1:
        raise ValueError(f"{SETTINGS}.halving: must be off for several objectives")
    if any(key.startswith("likelihood") for key in swept):
        groups = [metric.group for column in found.objectives if (metric := catalogue.find(column))]
        if {"elbo", "likelihood"} & set(groups):
            log.warning("the likelihoods of different pixel models cannot be compared: %s", ", ".join(found.objectives))


def _examples(dimensions: Sequence[Dimension]) -> list[list[str]]:
    """Points of the space that have every value of the lists, and both ends of the intervals."""
    first = [dimension.fixed() or dimension.at(0.0) for dimension in dimensions]
    found = [first]
    for i, dimension in enumerate(dimensions):
        ends = dimension.rows if isinstance(dimension, Choices) else (dimension.at(0.0), dimension.at(1.0))
        found += [[*first[:i], row, *first[i + 1 :]] for row in ends]
    return [[override for row in rows for override in row] for rows in found]


def _points_per_pack(launch: Launch) -> int:
    """How many points like this one fit one pack."""
    from vae_sweeps.data.load import load_dataset
    from vae_sweeps.launch.packing import limit_of, memory_of
    from vae_sweeps.system import machine

    (point, *_), device = launch.points, launch.options.device
    memory = memory_of(launch.cluster) if launch.cluster else machine.memory_for_packs(machine.resolve_device(device))
    return limit_of(point, load_dataset(point.data).image_shape, memory)


def _dry_run(found: _Search, study: Any, n_jobs: int) -> None:
    """Say what the next batch would be, and exit."""
    from vae_sweeps.launch import study as studies
    from vae_sweeps.launch.carry_out import carry_out

    ended = studies.num_ended(study)
    study.sampler = _sampler_of(found, study)
    number = min(n_jobs, found.settings.n_trials - ended)
    log.info("%d of %s ended; the next batch:", ended, count(found.settings.n_trials, "trial"))
    if number > 0:
        carry_out(found.launch_of(list(_asked(found, study, number).values())))


def _show(found: _Search, study: Any, launch: Launch) -> None:
    """Show the table of all points, write the sweep's files, and name the best trial."""
    from vae_sweeps.launch import on_end, summary
    from vae_sweeps.launch import study as studies
    from vae_sweeps.runs.known_results import KnownResults

    assert launch.sweep is not None
    if runs := launch.sweep.runs():
        summary.show(runs, launch.swept, launch.sweep, KnownResults())
        on_end.announce(launch.sweep, launch.options.on_end)
    best = studies.best_trials(study)
    if len(found.objectives) > 1:
        log.info("%s on the Pareto front of %s:", count(len(best), "trial"), ", ".join(found.objectives))
    for trial in best:
        values = ", ".join(f"{name} {value:.6g}" for name, value in zip(found.objectives, trial.values, strict=True))
        chosen = studies.overrides_of(found.dimensions, trial.params)
        of_swept = [override for override in chosen if override.partition("=")[0].lstrip("+") in found.space.swept]
        total = count(studies.num_ended(study), "trial")
        log.info("best of %s: trial %d, %s, with %s", total, trial.number + 1, values, " ".join(of_swept))
