"""The dtype of each column of a table, from the schema, the catalogue or the column's values."""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache, lru_cache
from typing import Any, get_type_hints

import pandas as pd

from vae_sweeps.config.keys import GROUP_SCHEMAS, as_typed
from vae_sweeps.config.schema import Point
from vae_sweeps.runs import catalogue


def column(name: str, values: Sequence[Any]) -> pd.Series:
    """Make a column that is not from the config; its dtype is the catalogue's, and text if it is not a metric."""
    metric = catalogue.find(name)
    if metric is None or metric.dtype == "object":
        return pd.Series(values)
    if metric.dtype != "float64":
        return pd.Series(values, dtype=metric.dtype)
    return pd.Series([float(v) if _is_number(v) else None for v in values], dtype="float64")


def config_column(key: str, values: Sequence[Any]) -> pd.Series:
    """Make a config column; its values decide the dtype if the schema does not, or allows both numbers and words."""
    dtype, present = _of_schema().get(key), [v for v in values if v is not None]
    if dtype in ("int64", "Int64") and all(isinstance(v, int) and abs(v) < 2**63 for v in present):
        return pd.Series(values, dtype=dtype if len(present) == len(values) else "Int64")
    if all(map(_is_number, present)) and (present or dtype is not None):
        return pd.Series([None if v is None else float(v) for v in values], dtype="float64")
    if present and all(isinstance(v, bool) for v in present):
        return pd.Series(values, dtype="bool" if len(present) == len(values) else "boolean")
    return pd.Series([float(v) if _is_number(v) else v for v in values])


def in_words(value: Any) -> str:
    """The value as it is written on a command line; 1 and 1.0 give the same text."""
    try:
        return _remembered_in_words(value)
    except TypeError:  # lists and dicts cannot be remembered
        return _in_words(value)


def _in_words(value: Any) -> str:
    def in_floats(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: in_floats(v) for name, v in value.items()}
        if isinstance(value, list):
            return [in_floats(v) for v in value]
        return float(value) if _is_number(value) else value

    return as_typed(in_floats(value))


_remembered_in_words = lru_cache(maxsize=4096, typed=True)(_in_words)


@cache
def _of_schema() -> dict[str, str]:
    """The keys that are numbers in the config's schema, with the dtypes of their columns."""
    schemas = [("", Point), *((f"{k}.", hint) for k, hint in get_type_hints(Point).items() if is_dataclass(hint))]
    schemas += [(f"{group}.", schema) for (group, _), schema in GROUP_SCHEMAS.items()]
    dtypes = {int: "int64", int | None: "Int64", float: "float64", float | None: "float64"}
    hints = [(f"{prefix}{k}", v) for prefix, schema in schemas for k, v in get_type_hints(schema).items()]
    return {key: dtypes[hint] for key, hint in hints if hint in dtypes}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
