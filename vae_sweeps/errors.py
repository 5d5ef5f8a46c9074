"""A user's mistake in one line: what, which value, what is allowed, what to do."""

import re
from collections.abc import Iterator

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from vae_sweeps.config import describe, did_you_mean, known_keys

# What through_the_door turns into one line; anything else is a defect of the program and keeps its traceback.
UserErrors = (ValueError, HydraException, OmegaConfBaseException)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []  # an error raised again may be its own cause's context
    link: BaseException | None = error
    while link is not None and link not in seen:
        yield link
        seen.append(link)
        link = link.__cause__ or link.__context__


def one_line(error: BaseException) -> str:
    """The one line that says what is wrong and what is allowed."""
    for link in _chain(error):
        if isinstance(link, MissingConfigException) and link.missing_cfg_file:
            group, _, choice = str(link.missing_cfg_file).rpartition("/")
            options = ", ".join(sorted(link.options or [])) or "nothing yet"
            return f"{group}={choice}: no such choice; {group} is one of: {options}"
    for link in _chain(error):
        if isinstance(link, ConfigKeyError | ConfigAttributeError):
            full_key = str(link.full_key or link.key)
            parent = full_key.rpartition(".")[0]
            return f"{full_key}: no such key; {did_you_mean(full_key, known_keys(parent))}"
    text = " ".join(str(error).split())
    override = re.search(r"Error merging override (\S+?)=(\S*)", text)
    if isinstance(error, ConfigCompositionException) and override:
        full_key, value = override.groups()
        allowed = describe(full_key.lstrip("+"))
        if allowed:
            return f"{full_key}={value}: must be {allowed}"
    return text
