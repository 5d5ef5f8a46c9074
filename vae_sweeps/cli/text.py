"""Plain tables for the terminal."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """One line for each row; `sides` has < for each column that is aligned to the left, and > for the others."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    formats = list(zip(sides, widths, strict=True))
    cells = ([f"{cell:{side}{width}}" for cell, (side, width) in zip(row, formats, strict=True)] for row in rows)
    return ["  ".join(row).rstrip() for row in cells]
