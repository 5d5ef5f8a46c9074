"""A user's mistake in one line: what, which value, what is allowed, what to do."""

import re
from collections.abc import Iterable, Iterator

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from vae_sweeps.config.keys import choices_with, describe, did_you_mean, is_schema, known_keys

# What through_the_door turns into one line; anything else is a defect of the program and keeps its traceback.
UserErrors = (ValueError, HydraException, OmegaConfBaseException)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what led to it, each once: an error raised again from its wrapper is its own context."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        yield link
        seen.add(id(link))
        link = link.__cause__ or link.__context__


def one_line(error: BaseException) -> str:
    """The one line that says what is wrong and what is allowed."""
    if type(error) is ValueError:
        return _joined(str(error))  # written for the user by whoever raised it
    text = str(error)
    override = re.search(r"(?:Error merging override |To append to your config use \+)(\S+?)=(.*)", text)
    for link in _chain(error):
        if isinstance(link, OverrideParseException):
            return f"{link.override}: cannot be read; must be key=value, with ' around odd characters"
        if isinstance(link, MissingConfigException) and link.missing_cfg_file:
            return _no_such_choice(str(link.missing_cfg_file), link.options or ())
        if isinstance(link, ConfigKeyError | ConfigAttributeError):
            return _no_such_key(link, override.groups() if override else None)
    if override:
        return _bad_value(override[1].lstrip("+"), override[2])
    if twice := re.search(r"Multiple values for (\S+)\. To override a value use 'override \S+: (.*)'", text):
        return f"+{twice[1]}={twice[2]}: {twice[1]} is chosen already; write {twice[1]}={twice[2]} without +"
    if absent := re.search(r"Could not delete from config\. '(.*?)' does not exist", text):
        return f"~{absent[1]}: has no value that could be left out; drop it from the command"
    if ambiguous := re.search(r"Ambiguous value for argument '(\S+?)=(.*)'", text):
        name, value = ambiguous.groups()
        return f"{name}={value}: must be one value; put -m before it for a grid, or write {name}=[{value}] for a list"
    if isinstance(error, InstantiationException) and (target := re.search(r"Error locating target '(.*?)'", text)):
        return f"_target_={target[1]}: cannot be imported; must be the full dotted name of a function or class"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        allowed = describe(error.full_key)
        is_missing = isinstance(error, MissingMandatoryValue)
        reason = "has no value" if is_missing else _joined(str(error.msg).partition("\n")[0])
        return f"{error.full_key}: {reason}" + (f"; must be {allowed}" if allowed else "")
    return _joined(text)


def _joined(text: str) -> str:
    return " ".join(text.split())


def _no_such_choice(missing: str, options: Iterable[str]) -> str:
    group, _, choice = missing.rpartition("/")
    if not group:
        return f"{choice}: no such config file; leave out --config-name"
    names = sorted(name for name in options if not is_schema(group, name))
    if not names:
        return f"{group}={choice}: conf/{group} has no choices yet; leave {group} out"
    return f"{group}={choice}: must be one of {', '.join(names)}"


def _no_such_key(error: ConfigKeyError | ConfigAttributeError, override: tuple[str, ...] | None) -> str:
    full_key = str(error.full_key or error.key)
    group = full_key.rpartition(".")[0]
    parent = error.parent_node
    here = [f"{group}.{name}" if group else str(name) for name in parent] if isinstance(parent, DictConfig) else []
    known = [name for name in here or known_keys(group) if name != "hydra"]
    line = ("=".join(override) if override else full_key) + ": no such key"
    if choices := choices_with(full_key):
        line += f" here; must go with {' or '.join(f'{group}={choice}' for choice in choices)}"
    return f"{line}; {did_you_mean(full_key, known)}"


def _bad_value(full_key: str, value: str) -> str:
    if allowed := describe(full_key):
        return f"{full_key}={value}: must be {allowed}"
    parent = full_key.rpartition(".")[0]
    if allowed := describe(parent):
        return f"{full_key}={value}: {parent} has no keys of its own; it must be {allowed}"
    return f"{full_key}={value}: does not fit here; `python launch.py --cfg job` shows all keys and values"


class RefusedError(Exception):
    """A command that cannot be run as it stands; the text is the one line that says why."""
