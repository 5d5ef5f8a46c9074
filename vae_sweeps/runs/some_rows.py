"""Read as many rows of a run as figures show, in little memory, however long the run was."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from vae_sweeps.runs.run_folder import RunFolder

_OF_VALIDATION = b'"val/elbo"'  # in the rows at the end of an epoch


def some_rows(run: RunFolder, most: int) -> Iterator[dict[str, Any]]:
    """Yield at most `most` + 1 of the rows with metrics of the validation split, and as many of the other rows.

    Of each kind, these are the first row, each second, fourth, eighth, ... row after it, and the last row. So runs that
    write rows at the same steps keep the same steps, and if there are few rows, all are kept.
    """
    with contextlib.suppress(FileNotFoundError), run.rows.open("rb") as file:
        num = [0, 0]
        for line in file:
            num[_OF_VALIDATION in line] += 1
        every = [1 << max(0, (n - 1) // most).bit_length() for n in num]
        file.seek(0)
        index = [0, 0]
        for line in file:
            kind = _OF_VALIDATION in line
            if index[kind] % every[kind] == 0 or index[kind] == num[kind] - 1:
                with contextlib.suppress(ValueError):  # a line that a kill has cut short
                    if isinstance(row := json.loads(line), dict):
                        yield row
            index[kind] += 1
