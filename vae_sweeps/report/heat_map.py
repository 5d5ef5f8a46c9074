"""Heat maps of any metric over two swept keys."""

from typing import Any

import numpy as np

from vae_sweeps.report import figures
from vae_sweeps.report.contents import Contents
from vae_sweeps.report.figures import Figure, View, literal
from vae_sweeps.report.grid import Places
from vae_sweeps.runs import catalogue

_MAX_WRITTEN = 120  # with more cells, there is no room for their values
_ROW_PX, _COLUMN_PX, _AROUND_PX, _LEAST_PX = 44, 95, 130, 320


def heat_map(contents: Contents, places: Places) -> Figure | None:
    """Make a view for each metric, grouped by the combination of the other keys; None unless both keys vary."""
    means = contents.means
    shape = len(places.rows), len(places.columns)
    names = figures.metrics(means)
    if contents.is_of_many:
        names = [name for name in names if (metric := catalogue.find(name)) is not None and metric.is_headline]
    if min(shape) < 2 or not names:
        return None
    floats = {name: figures.floats(means, name) for name in names}
    numbers = {name: figures.rounded(values) for name, values in floats.items()}
    is_written = shape[0] * shape[1] <= _MAX_WRITTEN
    where = f"{places.down}=%{{y}} {places.across}=%{{x}}"
    targets = contents.targets(means["run"])
    texts = {} if contents.is_of_many else {name: figures.texts(means, name) for name in names}
    limits = {name: (float(np.nanmin(values)), float(np.nanmax(values))) for name, values in floats.items()}
    views = []
    for group, cells in places.slices.items():
        grid = [[cells.get((r, c)) for c in range(shape[1])] for r in range(shape[0])]
        for name in names:
            if all(numbers[name][i] is None for i in cells.values()):
                continue  # halving has stopped all of them
            trace = {
                "type": "heatmap",
                "x": [literal(value) for value in places.columns],
                "y": [literal(value) for value in places.rows],
                "z": _each(grid, numbers[name]),
                "customdata": _each(grid, targets),
                **({"text": _each(grid, texts[name], "")} if name in texts else {}),
                "texttemplate": "%{text}" if is_written and name in texts else "",
                "hovertemplate": f"{literal(where)}<br>%{{{'text' if name in texts else 'z'}}}<extra></extra>",
                "hoverongaps": False,
                "colorscale": "Viridis",
                "zmin": limits[name][0],
                "zmax": limits[name][1],
                "colorbar": {"thickness": 12, "outlinewidth": 0},
                "xgap": 2,
                "ygap": 2,
            }
            views.append(View(name, [trace], _layout(places, name), group, figures.clip({"z": floats[name]})))
    caption = f"{places.down} down, {places.across} across. Click a cell to open its point."
    height, width = (
        max(_LEAST_PX, _AROUND_PX + _ROW_PX * shape[0]),
        _AROUND_PX + _COLUMN_PX * shape[1] if is_written else 0,
    )
    return Figure("heat-map", "Heat map", figures.averaged(caption, contents.keys), views, height, width)


def _each(grid: list[list[int | None]], values: list[Any], otherwise: Any = None) -> list[list[Any]]:
    return [[otherwise if i is None else values[i] for i in line] for line in grid]


def _title(column: str) -> str:
    """The column, its unit and whether higher or lower is better, which the colours do not show."""
    metric = catalogue.find(column)
    better = f", {metric.better} is better" if metric is not None and metric.better is not None else ""
    return f"{catalogue.with_unit(column)}{better}"


def _layout(places: Places, metric: str) -> dict[str, Any]:
    return {
        "title": {"text": literal(_title(metric)), "font": {"size": 13}, "x": 0, "xref": "paper"},
        "xaxis": {"title": {"text": literal(places.across)}, "type": "category", "showgrid": False},
        "yaxis": {
            "title": {"text": literal(places.down)},
            "type": "category",
            "showgrid": False,
            "autorange": "reversed",  # the order of the mosaic of samples
        },
    }
