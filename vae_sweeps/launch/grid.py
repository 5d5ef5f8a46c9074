"""The points of a sweep: expand grids or draw samples of a space, and name sweeps."""

import hashlib
import itertools
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from omegaconf import DictConfig, OmegaConf

from vae_sweeps.config.errors import RefusedError
from vae_sweeps.config.keys import as_typed, not_numbers
from vae_sweeps.config.point import check_names, check_values
from vae_sweeps.config.sweepers import AdaptiveSweeper, GridSweeper
from vae_sweeps.launch.sampling import samples
from vae_sweeps.launch.space import Choices, Dimension, Interval, from_file, is_zip, parsed, refuse_repeated
from vae_sweeps.launch.spellings import ALSO, SETTINGS
from vae_sweeps.launch.where import KEY, Condition
from vae_sweeps.runs import catalogue
from vae_sweeps.system import files

log = logging.getLogger(__name__)

# A sampler gives up when this many samples in a row are repetitions, or do not meet the condition.
_MAX_IN_VAIN = 10_000


@dataclass(frozen=True)
class Space:
    """The points that a command describes: one or more grids of dimensions, and the sweeper's settings.

    `settings` are None for a sweeper that is not ours, or that chooses the points itself.
    """

    parser: OverridesParser
    grids: Sequence[Sequence[Dimension]]
    settings: GridSweeper | None

    @property
    def swept(self) -> list[str]:
        """The keys in which points may differ, without signs such as + in front of them."""
        first, *others = self.grids
        keys = [key for dimension in first if dimension.is_swept for key in dimension.keys]
        fixed = {override for dimension in first for override in dimension.fixed()}
        for grid in others:
            for dimension in grid:
                if dimension.is_swept or not fixed.issuperset(dimension.fixed()):
                    keys += dimension.keys
        return list(dict.fromkeys(key.lstrip("+") for key in keys))

    def jobs(self) -> list[list[str]]:
        """The overrides of every point; in a grid the last key changes fastest. Equal ones occur once."""
        assert self.settings is not None
        settings, where = self.settings, self.settings.where
        if settings.sampler is not None:
            return _once(job for grid in self.grids for job in self._sampled(grid, settings))
        listed = _once(job for grid in self.grids for job in _combined(grid, settings.num_points))
        kept = list(filter(self._condition(), listed))
        if not kept:
            raise RefusedError(f"{KEY}={where}: holds for none of the {len(listed)} points of the grid")
        return kept

    def content(self) -> dict[str, Any]:
        """What identifies the sweep, whatever the order and the spelling of its keys and values."""
        settings, (first, *others) = self.settings, self.grids
        if settings is None:
            return _content(first, None)
        content = _content(first, settings.num_points)
        if settings.where is not None:
            content[KEY] = str(Condition(settings.where))
        if settings.sampler is not None:
            content[f"{SETTINGS}.sampler"] = [settings.sampler, settings.seed]
        if others:
            listed = (json.dumps(_content(grid, settings.num_points), sort_keys=True) for grid in others)
            content[ALSO] = sorted(listed)
        return content

    def _condition(self) -> Callable[[list[str]], bool]:
        """Whether the condition holds for a job. Raises RefusedError if it is not a condition."""
        if self.settings is None or self.settings.where is None:
            return lambda job: True

        @cache
        def value(text: str) -> tuple[str, Any]:
            override = self.parser.parse_override(text)
            found = override.value()
            return override.key_or_group, found.text if isinstance(found, QuotedString) else found

        def holds(job: list[str]) -> bool:
            try:
                return condition.holds(dict(map(value, job)))
            except ValueError as error:
                raise RefusedError(str(error)) from None

        try:
            condition = Condition(self.settings.where)
        except ValueError as error:
            raise RefusedError(str(error)) from None
        return holds

    def _sampled(self, grid: Sequence[Dimension], settings: GridSweeper) -> list[list[str]]:
        """The first `num_samples` different samples that meet the condition."""
        holds, found, in_vain = self._condition(), dict[tuple[str, ...], None](), 0
        for job in samples(grid, str(settings.sampler), settings.seed):
            in_vain += 1
            if tuple(job) not in found and holds(job):
                found[tuple(job)], in_vain = None, 0
            if len(found) == settings.num_samples:
                break
            if in_vain == _MAX_IN_VAIN:
                number = f"{SETTINGS}.num_samples={settings.num_samples}"
                where = "" if settings.where is None else f" for which {settings.where}"
                raise RefusedError(f"{number}: the space has only {len(found)} points{where}; must be at most that")
        return [list(job) for job in found]


def read_space(config_loader: ConfigLoader, config: DictConfig, arguments: Sequence[str]) -> Space:
    """The space that the arguments and the sweeper's settings in the composed `config` describe.

    Raises RefusedError for a mistake in them.
    """
    parser = OverridesParser.create(config_loader=config_loader)
    node = config.hydra.sweeper
    params = node.get("params") or {}
    zipped = [f"{name}={value}" for name, value in params.items() if is_zip(str(value))]
    own = [f"{name}={value}" for name, value in params.items() if not is_zip(str(value))]
    if OmegaConf.get_type(node) is not GridSweeper:
        return Space(parser, [parsed(parser, [*own, *arguments, *zipped])], None)
    settings = checked_settings(node)
    assert isinstance(settings, GridSweeper)
    first = parsed(parser, [*own, *arguments, *zipped])
    if settings.points is not None:
        first.append(from_file(parser, Path(settings.points)))
        refuse_repeated(first)
    others = [parsed(parser, part) for part in settings.also]
    if not all(others):
        raise RefusedError(f"{ALSO}: must be followed by the keys of another grid, such as {ALSO} beta=4 latent=2,10")
    space = Space(parser, [first, *(_with_fixed_of(first, grid) for grid in others)], settings)
    _check(space, settings)
    return space


def checked_settings(node: DictConfig) -> GridSweeper | AdaptiveSweeper | None:
    """The settings of our sweepers; None for another sweeper. Raises ValueError for a mistake in them."""
    if OmegaConf.get_type(node) not in (GridSweeper, AdaptiveSweeper):
        return None
    check_names(node, SETTINGS)
    check_names(node.halving, f"{SETTINGS}.halving")
    check_values(node, f"{SETTINGS}.")
    settings = OmegaConf.to_object(node)
    assert isinstance(settings, GridSweeper | AdaptiveSweeper)
    return settings


def check_is_for_one(node: DictConfig) -> None:
    """Raise RefusedError if the sweeper's settings describe a sweep, but the command trains one point."""
    found = list[str]()
    if OmegaConf.get_type(node) is AdaptiveSweeper:
        found.append("hydra/sweeper=adaptive")
    elif OmegaConf.get_type(node) is GridSweeper:
        names = ("params", "points", "where", "sampler", "num_samples", "num_points")
        found += [ALSO] if node.also else []
        found += [f"{SETTINGS}.{name}={as_typed(node[name])}" for name in names if node[name]]
        if node.halving.min_epochs is not None:
            found.append(f"{SETTINGS}.halving.min_epochs={node.halving.min_epochs}")
    if found:
        raise RefusedError(f"{found[0]}: describes a sweep; put -m in front of it, or remove it")


def check_optimized(column: str, node: DictConfig) -> None:
    """Raise ValueError if there is no such column; warn if another sweeper would look for its worst value."""
    try:
        metric = catalogue.of_table(column)
    except ValueError as error:
        raise ValueError(f"optimized_metric={error}") from None
    direction = str(node.get("direction"))
    if OmegaConf.get_type(node) not in (GridSweeper, AdaptiveSweeper) and "imize" in direction:
        worse = {"higher": "minimize", "lower": "maximize"}.get(str(metric.better))
        if worse is not None and worse in direction.lower():
            log.warning("hydra.sweeper.direction=%s, but a %s %s is better", worse, metric.better, column)


def _with_fixed_of(first: Sequence[Dimension], grid: Sequence[Dimension]) -> list[Dimension]:
    """A grid behind `+also`, with those keys of the first one that have a single value there and are not set here.

    The keys of a group that is chosen again here are left out.
    """
    own = {key.lstrip("+~") for dimension in grid for key in dimension.keys}

    def is_left(dimension: Dimension) -> bool:
        key = dimension.keys[0].lstrip("+~")
        parents = {key[:i].replace(".", "/") for i, character in enumerate(key) if character == "."}
        return not dimension.is_swept and not own & {key, *parents}

    return [*filter(is_left, first), *grid]


def _check(space: Space, settings: GridSweeper) -> None:
    """Raise RefusedError for settings that contradict each other."""
    dimensions = [dimension for grid in space.grids for dimension in grid]
    interval = next((dimension for dimension in dimensions if isinstance(dimension, Interval)), None)
    if settings.sampler is None and interval is not None and settings.num_points is None:
        raise RefusedError(
            f"{interval.keys[0]}: a grid takes {SETTINGS}.num_points=N values from an interval; set it, or sample "
            f"with {SETTINGS}.sampler=sobol"
        )
    if settings.num_points is not None and (interval is None or settings.sampler is not None):
        what = "no key has an interval; remove it" if interval is None else "is for grids; a sampler takes num_samples"
        raise RefusedError(f"{SETTINGS}.num_points={settings.num_points}: {what}")
    if (settings.sampler is None) != (settings.num_samples is None):
        missing, given = ("num_samples=N", "sampler") if settings.num_samples is None else ("sampler", "num_samples")
        value = settings.sampler if given == "sampler" else settings.num_samples
        raise RefusedError(f"{SETTINGS}.{given}={value}: must be used together with {SETTINGS}.{missing}")
    for grid in space.grids:
        if settings.sampler is not None and not any(dimension.is_swept for dimension in grid):
            raise RefusedError(f"{SETTINGS}.sampler={settings.sampler}: no key has several values to draw from")


def _listed(dimension: Dimension, num_points: int | None) -> Choices:
    return dimension if isinstance(dimension, Choices) else dimension.evenly(num_points or 2)


def _combined(grid: Sequence[Dimension], num_points: int | None) -> Iterator[list[str]]:
    for rows in itertools.product(*(_listed(dimension, num_points).rows for dimension in grid)):
        yield list(itertools.chain(*rows))


def _once(jobs: Iterable[list[str]]) -> list[list[str]]:
    return [list(job) for job in dict.fromkeys(map(tuple, jobs))]


def _content(grid: Sequence[Dimension], num_points: int | None) -> dict[str, Any]:
    """The values of each key that can change numbers."""
    content: dict[str, Any] = {}
    for dimension in grid:
        if re.split(r"[./]", dimension.keys[0].lstrip("+~"))[0] not in not_numbers():
            listed = dimension if num_points is None else _listed(dimension, num_points)
            content[",".join(sorted(dimension.keys))] = listed.content()
    return content


def default_sweep_name(data: str, swept: Iterable[str], content: Mapping[str, Any]) -> str:
    """Name a sweep by its data, swept keys and a hash of what identifies it (`Space.content`)."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:6]
    return files.folder_name("-".join([data, *sorted(swept)])) + f"-{digest}"
