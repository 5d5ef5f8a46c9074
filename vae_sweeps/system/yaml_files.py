"""Read and write YAML as OmegaConf does, with libyaml, which takes a twentieth of the time."""

import pickle
import re
from functools import lru_cache
from typing import Any

import yaml
from omegaconf._utils import OmegaConfDumper, get_yaml_loader
from yaml.cyaml import CParser  # type: ignore[attr-defined]


class _Loader(CParser, get_yaml_loader()):
    """OmegaConf's own loader (1e-5 is a number, a repeated key is an error) on top of libyaml's parser."""

    def __init__(self, stream: str) -> None:
        CParser.__init__(self, stream)
        yaml.constructor.SafeConstructor.__init__(self)
        yaml.resolver.Resolver.__init__(self)


class _Dumper(yaml.CSafeDumper):
    """Writes the same YAML as OmegaConf, which quotes strings that look like numbers."""


_Dumper.add_representer(str, OmegaConfDumper.str_representer)  # type: ignore[arg-type]


def load(text: str) -> Any:
    """What `OmegaConf.to_container(OmegaConf.load(...))` makes of a file with this text: dicts, lists and scalars.

    Files of which most parts are equal, such as the configs of a sweep, are read four times as fast. Raises ValueError
    if the text is not YAML.
    """
    if (content := _load_in_parts(text)) is not None:
        return content
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from error


# The beginning of a part: a key at the start of a line. Other lines there are items of a list, which `dump` does not
# indent, or comments; a text with anything else is not read in parts.
_PART = re.compile(r"^(?=[A-Za-z_]\w*:(?: |$))", re.MULTILINE)
_OTHER = re.compile(r"^(?![A-Za-z_]\w*:(?: |$)|- |#|[ \n]|\Z)", re.MULTILINE)


def _load_in_parts(text: str) -> dict[str, Any] | None:
    """Load each top-level key on its own, and remember it; None if the whole text has to be read at once.

    A part that is valid on its own means the same in the file, since a value that goes on after the part (in quotes, in
    brackets) is not valid, and neither is the alias of an anchor in another part.
    """
    head, *parts = _PART.split(text)
    if not parts or re.search(r"^[^#\n]", head, re.MULTILINE) or _OTHER.search(text):
        return None
    content: dict[str, Any] = {}
    for part in parts:
        loaded = _load_part(part)
        if loaded is None or loaded[0] in content:
            return None
        content[loaded[0]] = _copied(loaded[1])
    return content


@lru_cache(maxsize=4096)
def _load_part(part: str) -> tuple[str, Any] | None:
    try:
        ((key, value),) = yaml.load(part, Loader=_Loader).items()
        return key, value
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _copied(value: Any) -> Any:
    """A copy of what was remembered, so that a caller may change what it got."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def dump(content: Any) -> str:
    """Write dicts, lists and scalars as YAML, with the keys in their order.

    Parts that are equal in many files, such as the networks of a sweep's points, are written once and remembered.
    """
    if not isinstance(content, dict) or not content:
        return _dump(content)
    return "".join(_dump_part(pickle.dumps({key: value})) for key, value in content.items())


@lru_cache(maxsize=4096)
def _dump_part(pickled: bytes) -> str:
    return _dump(pickle.loads(pickled))  # pickled by `dump`, as dicts cannot be the key of a cache


def _dump(content: Any) -> str:
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)
