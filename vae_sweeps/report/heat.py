"""Any metric over two swept keys."""

from typing import Any

from vae_sweeps.report import drawing
from vae_sweeps.report.contents import Contents
from vae_sweeps.report.drawing import Figure, View, literal
from vae_sweeps.report.places import Places

_MAX_WRITTEN = 120  # cells that have room for their values
_ROW_PX, _AROUND_PX, _LEAST_PX = 44, 130, 320


def heat_map(contents: Contents, places: Places) -> Figure | None:
    """A view for each metric, in a group for each combination of the other keys. None unless both keys vary."""
    means = contents.means
    shape = len(places.rows), len(places.columns)
    names = drawing.metrics(means)
    if min(shape) < 2 or not names:
        return None
    records = means.to_dict("records")
    numbers = {name: drawing.rounded(drawing.floats(means, name)) for name in names}
    views = []
    for group, cells in places.slices.items():
        grid = [[cells.get((r, c)) for c in range(shape[1])] for r in range(shape[0])]
        for name in names:
            trace = {
                "type": "heatmap",
                "x": [literal(value) for value in places.columns],
                "y": [literal(value) for value in places.rows],
                "z": _each(grid, numbers[name]),
                "customdata": _each(grid, [row["run"] for row in records]),
                "text": _each(grid, [drawing.with_error(row, name) for row in records], ""),
                "texttemplate": "%{text}" if shape[0] * shape[1] <= _MAX_WRITTEN else "",
                "hovertemplate": f"{literal(places.down)}=%{{y}} {literal(places.across)}=%{{x}}<br>%{{text}}<extra></extra>",
                "hoverongaps": False,
                "colorscale": "Viridis",
                "colorbar": {"thickness": 12, "outlinewidth": 0, "title": {"text": _unit(name)}},
                "xgap": 2,
                "ygap": 2,
            }
            views.append(View(name, [trace], _layout(places), group))
    caption = f"{places.down} down, {places.across} across. A click on a cell opens its point."
    height = max(_LEAST_PX, _AROUND_PX + _ROW_PX * shape[0])
    return Figure("heat-map", "Heat map", drawing.averaged(caption, contents.keys), views, height)


def _each(grid: list[list[int | None]], values: list[Any], otherwise: Any = None) -> list[list[Any]]:
    return [[otherwise if i is None else values[i] for i in line] for line in grid]


def _unit(name: str) -> str:
    _, _, unit = drawing.titled(name).partition(" (")
    return unit.removesuffix(")")


def _layout(places: Places) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": literal(places.across)}, "type": "category", "showgrid": False},
        "yaxis": {"title": {"text": literal(places.down)}, "type": "category", "showgrid": False},
    }
