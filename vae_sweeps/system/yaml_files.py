"""Read and write YAML as OmegaConf does, but ten times as fast."""

import re
from typing import Any

import yaml
from omegaconf._utils import OmegaConfDumper


class _Loader(yaml.CSafeLoader):
    """Reads numbers such as 1e-3 as OmegaConf does: as numbers."""


# YAML 1.1 demands a dot in a floating-point number, and a sign in its exponent.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)$|^[-+]?\.[0-9_]+(?:[eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)


class _Dumper(yaml.CSafeDumper):
    """Quotes strings that look like numbers, as OmegaConf does."""


_Dumper.add_representer(str, OmegaConfDumper.str_representer)  # type: ignore[arg-type]


def load(text: str | bytes) -> Any:
    """The content of a YAML document. Raises ValueError if it cannot be parsed."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def dump(content: Any) -> str:
    """The content as YAML, in the order of its keys."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)
