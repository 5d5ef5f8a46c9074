"""Spellings of a command that Hydra does not take, written as it does.

`+also` separates grids, `name=zip(...)` pairs keys, `points=FILE` names a file with points: all are settings of the
sweeper. Options may stand anywhere.
"""

import re
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.types import Quote, QuotedString

from vae_sweeps.config.keys import option_names

ALSO = "+also"
SETTINGS = "hydra.sweeper"

# Keys that other programs spell as options. Hydra rejects options that it does not know.
_OPTIONS = {"--dry-run": "dry_run=true"}

# Hydra's options that are followed by a value.
_WITH_VALUE = {
    "--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--info",
    "--experimental-rerun",
}  # fmt: skip


def for_hydra(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command as Hydra takes them."""
    options, rest = _apart([_OPTIONS.get(argument, argument) for argument in arguments])
    first, *others = _split(rest)
    # What holds for the whole command may stand anywhere in it.
    first += [argument for part in others for argument in part if _is_of_command(argument)]
    also = [[argument for argument in part if not _is_of_command(argument)] for part in others]
    spelled = [_spelled(argument) for argument in first]
    if also:
        lists = ",".join(f"[{','.join(map(_quoted, part))}]" for part in also)
        spelled.append(f"{SETTINGS}.also=[{lists}]")
    return [*options, *spelled]


def _apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options, with their values, and the other arguments. Hydra takes overrides on one side of an option only."""
    options, rest, takes_value = list[str](), list[str](), False
    for argument in arguments:
        is_option = argument.startswith("-")
        (options if is_option or (takes_value and "=" not in argument) else rest).append(argument)
        takes_value = is_option and argument in _WITH_VALUE
    return options, rest


def _split(arguments: Sequence[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for argument in arguments:
        if argument == ALSO:
            parts.append([])
        else:
            parts[-1].append(argument)
    return parts


def _is_of_command(argument: str) -> bool:
    """Whether the argument sets a key that is not of a point."""
    name = re.match(r"[+~]*(\w*)", argument)
    return name is not None and name[1] in {"hydra", "points", *option_names()}


def _spelled(argument: str) -> str:
    name, is_setting, value = argument.partition("=")
    if not is_setting or not value:
        return argument
    if name == "points":
        name = f"{SETTINGS}.points"
    if name in (f"{SETTINGS}.points", f"{SETTINGS}.where"):
        is_ready = value == "null" or value[0] in ('"', "'")
        return f"{name}={value if is_ready else _quoted(value)}"
    if re.match(r"\w+$", name) and re.match(r"zip\s*\(", value):
        return f"++{SETTINGS}.params.{name}={_quoted(value)}"
    return argument


def _quoted(text: str) -> str:
    """The text as a string of Hydra's grammar, whatever is in it."""
    return QuotedString(text=text, quote=Quote.double).with_quotes()


def split_list(text: str) -> Iterator[str]:
    """The parts between the commas of a text, except for commas in brackets or quotes."""
    depth, quote, start = 0, "", 0
    for i, character in enumerate(text):
        if quote:
            quote = "" if character == quote and text[i - 1] != "\\" else quote
        elif character in "\"'":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth == 0:
            yield text[start:i].strip()
            start = i + 1
    yield text[start:].strip()
