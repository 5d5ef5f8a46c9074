"""Parallel coordinates: one line per point through its config values and its metrics."""

from typing import Any

import numpy as np
import pandas as pd

from vae_sweeps.analysis.format import cell
from vae_sweeps.report import figures
from vae_sweeps.report.contents import Contents
from vae_sweeps.report.figures import Figure, View, literal
from vae_sweeps.runs import catalogue

_AXIS_PX = 110


def parallel(contents: Contents) -> Figure | None:
    """Draw a line for each point that has all numbers; None for fewer than two points, or if no key varies."""
    means, keys = contents.means, contents.group_keys
    numbers = [name for name in figures.metrics(means) if _is_drawn(name)]
    shown = means.loc[np.isfinite(means[numbers].astype("float64").to_numpy()).all(axis=1)]
    coloured, colours = figures.colour_key(keys), figures.palette(contents)
    if len(shown) < 2 or coloured is None or not numbers:
        return None
    index = {name: i for i, name in enumerate(colours)}
    trace = {
        "type": "parcoords",
        "dimensions": [*(_choice(shown, name) for name in keys), *(_range(shown, name) for name in numbers)],
        "line": {
            "color": [index[cell(coloured, v)] for v in shown[coloured]],
            "colorscale": figures.colour_scale(),
            "cmin": 0,
            "cmax": max(len(colours) - 1, 1),
        },
        "customdata": contents.targets(shown["run"]),
        "labelangle": -20,
    }
    num_left_out = len(means) - len(shown)
    left_out = f" Lines omitted because a number is missing: {num_left_out}." if num_left_out else ""
    caption = f"Drag along an axis to select lines. Coloured by {coloured}.{left_out}"
    clip = figures.clip({literal(name): figures.floats(shown, name) for name in numbers})
    layout = {"margin": {"l": 60, "r": 90, "t": 90, "b": 30}}
    return Figure(
        "parallel",
        "All choices at once",
        figures.averaged(caption, contents.keys),
        [View("", [trace], layout, clip=clip)],
        min_width_px=_AXIS_PX * (len(keys) + len(numbers)),
    )


def _is_drawn(column: str) -> bool:
    """Whether the column has an axis: the table's default columns and KID, but not all kinds of images."""
    metric = catalogue.find(column)
    is_wanted = metric is not None and metric.group != "cost" and (metric.is_headline or metric.group == "kid")
    return is_wanted and not column.endswith(("/mixture", f"/{catalogue.FLOOR}"))


def _choice(shown: pd.DataFrame, key: str) -> dict[str, Any]:
    names = figures.choices(key, shown[key])
    index = {name: i for i, name in enumerate(names)}
    every = -(-len(names) // figures.MAX_NAMED)
    return {
        "label": literal(key),
        "values": [index[cell(key, v)] for v in shown[key]],
        "tickvals": list(range(0, len(names), every)),
        "ticktext": names[::every],
        "range": [-0.5, len(names) - 0.5],
    }


def _range(shown: pd.DataFrame, column: str) -> dict[str, Any]:
    values = figures.floats(shown, column)
    margin = 0.02 * (values.max() - values.min()) or 0.5
    low = max(values.min() - margin, 0.0) if figures.possible(column) else values.min() - margin
    return {
        "label": literal(column),
        "values": figures.rounded(values),
        "range": figures.rounded([low, values.max() + margin], digits=4),
    }
