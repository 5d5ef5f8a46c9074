"""A study of Optuna over a sweep's space: its storage, its sampler, and what a trial's parameters mean."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from vae_sweeps.launch.space import Choices, Dimension, Interval
from vae_sweeps.system.logs import first_line

# Attributes of studies and trials that this project sets.
_SPACE = "vae_sweeps_space"
OVERRIDES = "overrides"

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_study(where: str, name: str, directions: Sequence[str], about: Mapping[str, Any]) -> optuna.Study:
    """The study in a storage, a new one or that of an earlier command.

    `where` is an address of Optuna or a journal file, and `about` says what is searched. Raises ValueError if the study
    searches something else, or if the storage cannot be opened.
    """
    try:
        study = optuna.create_study(
            storage=_storage(where),
            study_name=name,
            directions=list(directions),
            pruner=optuna.pruners.NopPruner(),  # else Optuna installs one of its own; halving is ours
            load_if_exists=True,
        )
    except Exception as error:
        raise _not_opened(where, error) from error
    if _SPACE not in study.user_attrs:
        study.set_user_attr(_SPACE, json.dumps(about, sort_keys=True))
    _refuse_another_space(study, about)
    return study


def read_study(where: str, name: str, directions: Sequence[str], about: Mapping[str, Any]) -> optuna.Study:
    """A copy of the study in memory, empty if there is none; otherwise as `open_study`."""
    if "://" not in where and not os.path.exists(where):
        return in_memory(directions)
    try:
        study = optuna.load_study(study_name=name, storage=_storage(where))
    except KeyError:  # there is no study of this name
        return in_memory(directions)
    except Exception as error:
        raise _not_opened(where, error) from error
    _refuse_another_space(study, about)
    return copy_in_memory(study)


def _not_opened(where: str, error: Exception) -> ValueError:
    """What to raise for an error of a database driver, of SQLAlchemy, of Optuna or of the file system."""
    return ValueError(f"hydra.sweeper.storage={where}: cannot be opened: {first_line(error)}")


def _refuse_another_space(study: optuna.Study, about: Mapping[str, Any]) -> None:
    known, wanted = study.user_attrs.get(_SPACE), json.dumps(about, sort_keys=True)
    if known is not None and known != wanted:
        difference = _difference(json.loads(known), about)
        raise ValueError(f"study {study.study_name}: {difference}; use another sweep= or study_name")


def copy_in_memory(study: optuna.Study) -> optuna.Study:
    """The study's trials in a study that is not stored anywhere."""
    copy = optuna.create_study(directions=[direction.name.lower() for direction in study.directions])
    copy.add_trials(study.get_trials())
    return copy


def in_memory(directions: Sequence[str]) -> optuna.Study:
    """An empty study that is not stored anywhere."""
    return optuna.create_study(directions=list(directions))


def _storage(where: str) -> Any:
    if "://" in where:
        return where
    from optuna.storages.journal import JournalFileBackend

    return optuna.storages.JournalStorage(JournalFileBackend(where))


def _difference(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The first thing in which two descriptions of a search differ, in words."""
    for key in dict.fromkeys([*known, *wanted]):
        if known.get(key) != wanted.get(key):
            was, now = (json.dumps(content[key]) if key in content else "nothing" for content in (known, wanted))
            return f"was begun with {was} for {key}, and the command has {now}"
    return "was begun with something else"


def new_sampler(name: str, seed: int, num_trials: int) -> optuna.samplers.BaseSampler:
    """The sampler for the next batch, after `num_trials` trials, ended or not.

    Its seed depends on their number, so that a search that is started again does not repeat its first trials.
    """
    seed_of_batch = (seed * 1_000_003 + num_trials) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":
                # Without the "constant liar", all trials of a batch would be nearly the same.
                return optuna.samplers.TPESampler(seed=seed_of_batch, constant_liar=True)
            case "random":
                return optuna.samplers.RandomSampler(seed=seed_of_batch)
            case "cmaes":
                return optuna.samplers.CmaEsSampler(seed=seed_of_batch)
            case "qmc":
                return optuna.samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
            case _:
                return optuna.samplers.GPSampler(seed=seed_of_batch)


def distributions(dimensions: Sequence[Dimension]) -> dict[str, BaseDistribution]:
    """The distribution of each swept dimension, by the names of its keys."""
    return {name_of(dimension): _distribution(dimension) for dimension in dimensions if dimension.is_swept}


def name_of(dimension: Dimension) -> str:
    return ",".join(key.lstrip("+") for key in dimension.keys)


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution([_label(row) for row in dimension.rows])
    if dimension.is_whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.is_log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)


def _label(row: Sequence[str]) -> str:
    """A category: the value of a single key, or the overrides of several."""
    return row[0].partition("=")[2] if len(row) == 1 else " ".join(row)


def overrides_of(dimensions: Sequence[Dimension], params: Mapping[str, Any]) -> list[str]:
    """The overrides of a point with these parameters of a trial."""
    found: list[str] = []
    for dimension in dimensions:
        if not dimension.is_swept:
            found += dimension.fixed()
        elif isinstance(dimension, Interval):
            found += dimension.override(params[name_of(dimension)])
        else:
            found += next(row for row in dimension.rows if _label(row) == params[name_of(dimension)])
    return found


def unfinished(study: optuna.Study, dimensions: Sequence[Dimension]) -> dict[int, list[str]]:
    """The trials of a process that was killed, and the overrides of their points.

    A trial that was being asked for gets the parameters that it lacks.
    """
    found = dict[int, list[str]]()
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        trial = running(study, frozen)
        for name, distribution in distributions(dimensions).items():
            _suggest(trial, name, distribution)
        found[frozen.number] = overrides_of(dimensions, trial.params)
    return found


def running(study: optuna.Study, frozen: FrozenTrial) -> optuna.Trial:
    """A trial that has not ended, so that parameters and values can be added."""
    return optuna.trial.Trial(study, frozen._trial_id)


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> None:
    """Let the trial have a parameter; one that it has stays as it is."""
    match distribution:
        case FloatDistribution():
            trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
        case IntDistribution():
            trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
        case CategoricalDistribution():
            trial.suggest_categorical(name, distribution.choices)


def num_ended(study: optuna.Study) -> int:
    """The number of trials that have ended, in whatever way."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)))


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The best trial, or those that no other one beats in every objective; none if none has a value."""
    if len(study.directions) > 1:
        return study.best_trials
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    return sorted(complete, key=lambda trial: sign * trial.values[0])[:1]
