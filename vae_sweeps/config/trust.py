"""Which functions and classes a config may name: vae-sweeps' own, and others only where the user has named them.

Run folders may come from other people, and calling what a config names means running code. So nothing else is imported
or called unless the user's command or configs name it, or the user says that a run is trusted.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

from vae_sweeps.config.keys import has_interpolation
from vae_sweeps.config.launch_options import LaunchOptions
from vae_sweeps.config.own_names import OWN
from vae_sweeps.config.schema import Point
from vae_sweeps.system import yaml_files

_allowed: ContextVar[frozenset[str]] = ContextVar("allowed", default=frozenset())


def allowed() -> frozenset[str]:
    """The addresses that may be called here, besides vae-sweeps' own and those that the user's configs name."""
    return _allowed.get()


@contextmanager
def allowing(addresses: Iterable[str]) -> Iterator[None]:
    """Allow configs in this block to call `addresses` too."""
    token = _allowed.set(_allowed.get() | frozenset(addresses))
    try:
        yield
    finally:
        _allowed.reset(token)


def targets_in(config: Any) -> frozenset[str]:
    """Every `_target_` in a config, however deep. One that is null names nothing."""
    if isinstance(config, Mapping):
        own = [] if config.get("_target_") is None else [str(config["_target_"])]
        return frozenset(own).union(*map(targets_in, config.values()))
    return frozenset().union(*map(targets_in, config)) if isinstance(config, list | tuple) else frozenset()


def targets_of_points(points: Iterable[Point]) -> frozenset[str]:
    """Every `_target_` that the points name."""
    return frozenset().union(*map(_targets_of, points))


def targets_with_source(point: Point) -> frozenset[str]:
    """What the point names of the user's own, and whose source is part of its run id. Data have a fingerprint."""
    return frozenset(targets_in(_groups(point)[1:]) - OWN.keys())


def _targets_of(point: Point) -> frozenset[str]:
    return targets_in(_groups(point))


def _groups(point: Point) -> list[Any]:
    """The groups of a point that can name functions."""
    return [point.data, point.arch, point.likelihood, vars(point.objective), vars(point.optim)]


def targets_of_options(options: LaunchOptions) -> frozenset[str]:
    """Every `_target_` that the launch options name."""
    return targets_in([options.evaluation.features, options.evaluation.extra])


def check_points(points: Iterable[Point]) -> None:
    """Raise ValueError if a point names anything that may not be called here."""
    for point in points:
        for config in _groups(point):
            check(config)


def check(config: Mapping[str, Any]) -> None:
    """Raise ValueError if `config` names anything that may not be called here. Imports nothing."""
    for target in sorted(targets_in(config)):
        if target not in OWN and target not in allowed() and target not in _named_in_conf():
            raise ValueError(
                f"_target_={target}: is not one of vae-sweeps' own, and your configs do not name it, so it is not "
                "called; if you trust its author, use trust=True in Python, or --trust on the command line"
            )
    if has_interpolation(config):
        raise ValueError(f"_target_={config.get('_target_')}: its keys must not contain ${{...}}, which Hydra resolves")


@lru_cache(maxsize=1)
def _named_in_conf() -> frozenset[str]:
    """Every `_target_` in the user's conf/. Only in that beside the code: other folders may be a stranger's."""
    from vae_sweeps.config.compose import CONF

    return frozenset().union(*map(_named_in_file, sorted(CONF.rglob("*.yaml"))))


def _named_in_file(path: Path) -> frozenset[str]:
    try:
        return targets_in(yaml_files.load(path.read_text()))
    except ValueError:
        return frozenset()  # Hydra reports it when it is used
