"""The dimensions of a sweep's space: keys with the values that they take, alone or together, and intervals."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, Sweep

from vae_sweeps.config.errors import RefusedError
from vae_sweeps.config.keys import as_typed, takes_whole_numbers, top_level_names
from vae_sweeps.launch.spellings import split_list

_DIGITS = 6  # of sampled values: easy to read, and equal on machines whose logarithms differ in the last bit


@dataclass(frozen=True)
class Choices:
    """Keys that take the values of one row together: `rows` has an override for each key. A fixed key has one row."""

    keys: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_swept: bool = True

    def at(self, share: float) -> tuple[str, ...]:
        """The row at a share in [0,1) of the list."""
        return self.rows[int(share * len(self.rows))]

    def fixed(self) -> tuple[str, ...]:
        """The override of a key that is not swept; else nothing."""
        return () if self.is_swept else self.rows[0]

    def content(self) -> Any:
        """What identifies the values, whatever their order and spelling."""
        if len(self.keys) == 1:
            return sorted(_number(override.partition("=")[2]) for (override,) in self.rows)
        pairs = [[override.partition("=") for override in row] for row in self.rows]
        return sorted(sorted([key, _number(value)] for key, _, value in row) for row in pairs)


@dataclass(frozen=True)
class Interval:
    """A key that takes any value from `low` to `high`, or any whole one, evenly on a linear or a logarithmic scale."""

    keys: tuple[str]
    low: float
    high: float
    is_log: bool
    is_whole: bool

    @property
    def is_swept(self) -> bool:
        return True

    def fixed(self) -> tuple[str, ...]:
        return ()

    def at(self, share: float) -> tuple[str, ...]:
        """The value at a share in [0,1] of the interval. Whole numbers have equal parts of it."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.is_whole else (self.low, self.high)
        scaled = math.exp(share * math.log(high / low)) * low if self.is_log else low + share * (high - low)
        return self.override(min(max(round(scaled), self.low), self.high) if self.is_whole else scaled)

    def evenly(self, num_points: int) -> Choices:
        """Values from `low` to `high` with equal distances, or equal ratios."""
        shares = [i / (num_points - 1) for i in range(num_points)]
        if self.is_whole:
            ends = replace(self, is_whole=False)
            values = [round(float(ends.at(share)[0].partition("=")[2])) for share in shares]
            rows = [self.override(value) for value in values]
        else:
            rows = [self.at(share) for share in shares]
        return Choices(self.keys, tuple(dict.fromkeys(rows)))

    def content(self) -> Any:
        return ["interval", self.low, self.high, self.is_log]

    def override(self, value: float) -> tuple[str, ...]:
        return (f"{self.keys[0]}={as_typed(float(f'{value:.{_DIGITS}g}'))}",)


Dimension = Choices | Interval


def _number(text: str) -> str:
    try:
        return repr(float(text))
    except ValueError:
        return text


def parsed(parser: OverridesParser, arguments: Sequence[str]) -> list[Dimension]:
    """The dimensions that the arguments describe; of two for the same key, the later one counts."""
    dimensions: dict[str, Dimension] = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        if is_zip(value):
            dimensions[f"zip {name}"] = _zipped(parser, name, value)
        else:
            (override,) = parser.parse_overrides([argument])
            dimensions[override.get_key_element()] = _of_override(parser, override)
    found = list(dimensions.values())
    refuse_repeated(found)
    return found


def is_zip(value: str) -> bool:
    """Whether the value of an argument pairs keys."""
    return re.match(r"zip\s*\(", value) is not None


def refuse_repeated(dimensions: Sequence[Dimension]) -> None:
    """Raise RefusedError if a key is in several dimensions."""
    keys = [key for dimension in dimensions for key in dimension.keys]
    if repeated := next((key for key in keys if keys.count(key) > 1), None):
        raise RefusedError(f"{repeated}: is given twice, once together with other keys; must be given once")


def _of_override(parser: OverridesParser, override: Override) -> Dimension:
    key, line, value = override.get_key_element(), str(override.input_line), override.value()
    if isinstance(value, ChoiceSweep) and any(isinstance(part, Sweep | Glob) for part in value.list):
        return _of_parts(parser, key, line)
    if not override.is_sweep_override():
        return Choices((key,), ((f"{key}={override.get_value_element_as_str()}",),), is_swept=False)
    if not override.is_discrete_sweep():
        return _interval(key, value, line)
    values = list(override.sweep_string_iterator())
    if isinstance(value, Glob):  # which also matches the schemas that choices of a group inherit
        values = [name for name in values if not name.endswith("_schema")]
    rows = tuple((f"{key}={name}",) for name in values)
    if not rows:
        raise RefusedError(f"{line}: matches no value; must be a list of values")
    return Choices((key,), rows)


def _of_parts(parser: OverridesParser, key: str, line: str) -> Choices:
    """The values of a list with ranges or patterns in it, such as `beta=range(0,1,0.25),5`, which Hydra cannot list."""
    rows = []
    for part in split_list(line.partition("=")[2]):
        (override,) = parser.parse_overrides([f"{key}={part}"])
        dimension = _of_override(parser, override)
        if not isinstance(dimension, Choices):
            raise RefusedError(
                f"{line}: an interval must stand alone; write range(START,STOP,STEP) for values in a list"
            )
        rows += dimension.rows
    return Choices((key,), tuple(dict.fromkeys(rows)))


def _interval(key: str, sweep: Any, line: str) -> Interval:
    assert isinstance(sweep, IntervalSweep)
    low, high, is_log = sweep.start, sweep.end, "log" in sweep.tags
    if low is None or high is None or not -math.inf < low < high < math.inf:
        raise RefusedError(f"{line}: must be an interval from a smaller to a larger number")
    if is_log and low <= 0:
        raise RefusedError(f"{line}: must begin above 0, since its scale is logarithmic")
    is_whole = takes_whole_numbers(key.lstrip("+"))
    if is_whole is None:  # a key of the user's own part
        is_whole = isinstance(low, int) and isinstance(high, int)
    if is_whole:
        low, high = math.ceil(low), math.floor(high)
        if low >= high:
            raise RefusedError(f"{line}: must hold at least two whole numbers")
    return Interval((key,), float(low), float(high), is_log, is_whole)


def _zipped(parser: OverridesParser, name: str, text: str) -> Choices:
    """The rows of `zip(key=[...],key=choice(...))`, in the syntax that Hydra plans."""
    line = f"{name}={text}"
    example = "pair=zip(beta=[0,1],latent=[2,10])"
    if name in top_level_names():
        raise RefusedError(f"{line}: {name} is a key; zip needs a name of its own, such as {example}")
    inner = re.fullmatch(r"zip\s*\((.*)\)\s*", text, re.DOTALL)
    members = list(split_list(inner[1])) if inner else []
    columns: dict[str, list[str]] = {}
    for member in members:
        key, is_pair, values = member.partition("=")
        key, values = key.strip(), values.strip()
        is_list = values.startswith("[") and values.endswith("]")
        read = parser.parse_overrides([f"{key}=choice({values[1:-1]})" if is_list else member] if is_pair else [])
        if not read or not read[0].is_sweep_override() or not read[0].is_discrete_sweep():
            raise RefusedError(f"{line}: {member or 'nothing'}: must be key=[values], such as {example}")
        if key in columns:
            raise RefusedError(f"{line}: {key} is given twice; must be given once")
        columns[key] = [f"{key}={value}" for value in read[0].sweep_string_iterator()]
    sizes = {key: len(values) for key, values in columns.items()}
    if len(sizes) < 2:
        raise RefusedError(f"{line}: must have at least two keys, such as {example}")
    if len(set(sizes.values())) > 1:
        counted = ", ".join(f"{key} has {size}" for key, size in sizes.items())
        raise RefusedError(f"{line}: keys must have equally many values; {counted}")
    return Choices(tuple(columns), tuple(zip(*columns.values(), strict=True)))


def from_file(parser: OverridesParser, path: Path) -> Choices:
    """The points of a CSV file, whose first line has the keys. An empty cell leaves the key at its default."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file, strict=True) if any(cell.strip() for cell in line)]
    except OSError as error:
        raise RefusedError(f"points={path}: {error.strerror}; must be a CSV file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise RefusedError(f"points={path}: {error}; must be a CSV file") from None
    keys = [cell.strip() for cell in lines[0]] if lines else []
    if not lines[1:] or not all(keys) or len(set(keys)) < len(keys):
        raise RefusedError(f"points={path}: must have a line of different keys, and a line for each point")

    @cache
    def checked(override: str) -> str:
        (read,) = parser.parse_overrides([override])
        if read.is_sweep_override():
            raise RefusedError(f"points={path}: {override}: must be one value")
        return override

    rows = []
    for line in lines[1:]:
        if len(line) != len(keys):
            raise RefusedError(f"points={path}: {','.join(line)}: must have {len(keys)} values, one for each key")
        cells = zip(keys, (cell.strip() for cell in line), strict=True)
        rows.append(tuple(checked(f"{key}={cell}") for key, cell in cells if cell))
    return Choices(tuple(keys), tuple(rows))
