"""One-line messages for mistakes in a command: the key, its value, what is allowed, and what to do."""

import re
import shlex
from collections.abc import Iterable, Iterator

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from vae_sweeps.config.keys import choices_with, describe, did_you_mean, is_schema, known_keys
from vae_sweeps.config.secrets import hide_in_override
from vae_sweeps.system.files import LAUNCH

# Errors that are reported in one line; any other exception is a bug and keeps its traceback.
UserErrors = (ValueError, HydraException, OmegaConfBaseException, YAMLError)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and its causes, each once: an error that is raised again from its wrapper is its own context."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        yield link
        seen.add(id(link))
        link = link.__cause__ or link.__context__


def one_line(error: BaseException) -> str:
    """Describe the error in one line: what is wrong, and what is allowed."""
    if type(error) is ValueError:
        return _joined(str(error))  # our own message, already written for the user
    text = _without_secrets(str(error))
    override = re.search(r"(?:Error merging override |To append to your config use \+)(\S+?)=(.*)", text)
    for link in _chain(error):
        if isinstance(link, OverrideParseException):
            shown = hide_in_override(str(link.override))
            return f"{shown}: cannot be parsed; must be key=value, with quotes (') around special characters"
        if isinstance(link, MissingConfigException) and link.missing_cfg_file:
            return _no_such_choice(str(link.missing_cfg_file), link.options or ())
        if isinstance(link, ConfigKeyError | ConfigAttributeError):
            return _no_such_key(link, override.groups() if override else None)
    if override:
        return _bad_value(override[1].lstrip("+"), override[2])
    if twice := re.search(r"Multiple values for (\S+)\. To override a value use 'override \S+: (.*)'", text):
        return f"+{twice[1]}={twice[2]}: {twice[1]} is chosen already; write {twice[1]}={twice[2]} without +"
    if absent := re.search(r"Could not delete from config\. '(.*?)' does not exist", text):
        return f"~{absent[1]}: has no value to delete; remove it from the command"
    if ambiguous := re.search(r"Ambiguous value for argument '(\S+?)=(.*)'", text):
        name, value = ambiguous.groups()
        return f"{name}={value}: must be one value; put -m before it for a grid, or write {name}=[{value}] for a list"
    if isinstance(error, InstantiationException) and (target := re.search(r"Error locating target '(.*?)'", text)):
        return f"_target_={target[1]}: cannot be imported; must be the full dotted name of a function or class"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        allowed = describe(error.full_key)
        is_missing = isinstance(error, MissingMandatoryValue)
        reason = "has no value" if is_missing else _joined(_without_secrets(str(error.msg)).partition("\n")[0])
        return f"{error.full_key}: {reason}" + (f"; must be {allowed}" if allowed else "")
    return _joined(text) or f"the config cannot be read ({type(error).__name__})"


def _without_secrets(text: str) -> str:
    """Hydra's message without the values that shell lines and environment variables of the command may hold."""
    text = re.sub(r"(The value of '(?:hydra\.|on_end)\S*') is .*", r"\1 is not the given one", text, flags=re.DOTALL)
    return re.sub(r"[+~]*(?:hydra\.\S+?|on_end\S*?)=[^\n]*", lambda found: hide_in_override(found[0]), text)


def _joined(text: str) -> str:
    return " ".join(text.split())


def _no_such_choice(missing: str, options: Iterable[str]) -> str:
    group, _, choice = missing.rpartition("/")
    if not group:
        return f"{choice}: no such config file; remove --config-name"
    names = sorted(name for name in options if not is_schema(group, name))
    if not names:
        return f"{group}={choice}: conf/{group} has no choices yet; remove {group}"
    return f"{group}={choice}: must be one of {', '.join(names)}"


def _no_such_key(error: ConfigKeyError | ConfigAttributeError, override: tuple[str, ...] | None) -> str:
    full_key = str(error.full_key or error.key)
    group = full_key.rpartition(".")[0]
    parent = error.parent_node
    siblings = [f"{group}.{name}" if group else str(name) for name in parent] if isinstance(parent, DictConfig) else []
    known = [name for name in siblings or known_keys(group) if name != "hydra"]
    line = ("=".join(override) if override else full_key) + ": no such key"
    if choices := choices_with(full_key):
        line += f" here; must be used with {' or '.join(f'{group}={choice}' for choice in choices)}"
    return f"{line}; {did_you_mean(full_key, known)}"


def _bad_value(full_key: str, value: str) -> str:
    if allowed := describe(full_key):
        return f"{full_key}={value}: must be {allowed}"
    parent = full_key.rpartition(".")[0]
    if allowed := describe(parent):
        return f"{full_key}={value}: {parent} is not a group; must be {allowed}"
    return f"{full_key}={value}: is not allowed; `{shlex.join(LAUNCH)} --cfg job` shows all keys and values"


class RefusedError(Exception):
    """A mistake in the command; the text is a one-line message for the user."""
