"""Expand a grid into the overrides of its points, and name sweeps."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString

from vae_sweeps.config.errors import RefusedError
from vae_sweeps.config.keys import not_numbers
from vae_sweeps.launch.where import KEY, Condition
from vae_sweeps.system import files


def expand_grid(config_loader: ConfigLoader, arguments: Sequence[str], where: object = None) -> list[list[str]]:
    """The overrides of every point of the grid for which the condition `where` holds; the last key changes fastest."""
    choices: dict[str, list[str]] = {}
    parser = OverridesParser.create(config_loader=config_loader)
    for override in parser.parse_overrides(list(arguments)):
        key = override.get_key_element()
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise RefusedError(f"{override.input_line}: a grid needs a list of values, not an interval")
        if override.is_sweep_override():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
            if not choices[key]:
                raise RefusedError(f"{override.input_line}: matches no value; must be a list of values")
        else:
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    jobs = [list(job) for job in itertools.product(*choices.values())]
    return jobs if where is None else _filtered(jobs, str(where), parser)


def _filtered(jobs: list[list[str]], where: str, parser: OverridesParser) -> list[list[str]]:
    """The jobs for which the condition holds. Raises RefusedError if there is none, or if it is not a condition."""

    @cache
    def parsed(text: str) -> tuple[str, Any]:
        override = parser.parse_override(text)
        value = override.value()
        return override.key_or_group, value.text if isinstance(value, QuotedString) else value

    try:
        condition = Condition(where)
        kept = [job for job in jobs if condition.holds(dict(map(parsed, job)))]
    except ValueError as error:
        raise RefusedError(str(error)) from None
    if not kept:
        raise RefusedError(f"{KEY}={where}: holds for none of the {len(jobs)} points of the grid")
    return kept


def default_sweep_name(data: str, command: Sequence[Override], swept: Sequence[str], where: object = None) -> str:
    """Name a sweep by its data, swept keys and a hash that does not depend on the order or spelling of values."""

    def number(text: str) -> str:
        try:
            return repr(float(text))
        except ValueError:
            return text

    content: dict[str, Any] = {} if where is None else {KEY: str(Condition(str(where)))}
    for override in command:
        if override.key_or_group.split(".")[0] in not_numbers():
            continue
        if override.is_discrete_sweep():
            content[override.get_key_element()] = sorted(number(v) for v in override.sweep_string_iterator())
        else:
            content[override.get_key_element()] = [number(override.get_value_element_as_str())]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:6]
    return files.folder_name("-".join([data, *sorted(swept)])) + f"-{digest}"
