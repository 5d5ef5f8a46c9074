"""The report as one HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from vae_sweeps.analysis import doubts
from vae_sweeps.analysis.format import is_missing
from vae_sweeps.report import (
    curves,
    facts,
    figures,
    heat_map,
    importance,
    parallel_coordinates,
    point_figures,
    recipe,
    scatter,
    summary,
    thumbnails,
)
from vae_sweeps.report.contents import MANY, NUM_BEST, Contents, Run, best
from vae_sweeps.report.grid import of
from vae_sweeps.report.recipe import Recipes
from vae_sweeps.report.thumbnails import Pictures
from vae_sweeps.runs import catalogue
from vae_sweeps.system import files

# Small enough to send by mail; pictures use the space that the rest of the page leaves.
_MAX_BYTES = 14_000_000
_LEAST_PICTURES_BYTES = 1_000_000
_SOURCES = (
    "style.css", "selection.js", "table.js", "export.js", "sections.js", "marks.js", "figures.js", "explore.js",
    "points.js", "live.js",
)  # fmt: skip
_EXPLORED = "Choose a box or a lasso in the toolbar to select points: the table and all figures then show those alone."
_NEVER = ("run", "num_missing")
_NOT_SHOWN = f"With more than {MANY:,} points, the report has pictures and curves only of the {NUM_BEST} best."
_MAX_SEEDS = 50  # of one point, to which another seed links
_MAX_FAILURE_CHARACTERS = 4000  # keeps the end of a traceback, its most useful part


def write(content: Contents, path: Path) -> Path:
    """Write the report to `path`, and return `path`.

    Up to some hundreds of points, pictures are reduced until the file takes at most 14 MB.
    """
    files.write_whole(path, render(content))
    return path


def render(content: Contents, live: int | None = None) -> str:
    """Render the whole page as text. `live` is the version of a page that is served, and looks for newer ones."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vae_sweeps.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Standard JSON, with NaN as null. It also escapes text that would close a script element.
    environment.policies["json.dumps_function"] = files.to_json
    environment.policies["json.dumps_kwargs"] = {}
    template = environment.get_template("page.html.j2")
    recipes = recipe.of(content)
    variables = _variables(content, recipes)
    data = htmlsafe_json_dumps(variables.pop("data"), dumps=files.to_json)
    variables |= {
        "data": data,
        "live": live,
        "plotly": Markup(get_plotlyjs()),
        "sources": {name: _source(environment, name) for name in _SOURCES},
    }
    points = _points(content, recipes)
    without = template.render(**variables, points=_with_pictures(points, [Pictures()] * len(points)))
    room = max(_MAX_BYTES - len(without.encode()), _LEAST_PICTURES_BYTES)
    pictures = thumbnails.embed([content.runs[name].folder for name in content.shown], room)
    return template.render(**variables, points=_with_pictures(points, pictures))


def _source(environment: jinja2.Environment, name: str) -> Markup:
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def _variables(content: Contents, recipes: Recipes) -> dict[str, Any]:
    """The template's variables, except the points."""
    grid = of(content) if len(content.means) else None
    made = [
        heat_map.heat_map(content, grid) if grid else None,
        importance.history(content),
        curves.learning_curves(content),
        scatter.rate_distortion(content),
        scatter.fid(content),
        scatter.precision_recall(content),
        scatter.factors(content),
        parallel_coordinates.parallel(content),
        importance.importance(content),
    ]
    drawn = [figure for figure in made if figure is not None]
    tables = {"points": _table(content.table, content.keys)}
    if "seed" in content.keys:
        tables["means over seeds"] = _table(content.means, content.group_keys)
    return {
        "title": ", ".join(sweep.name for sweep in content.sweeps),
        "made_at": facts.shown(facts.moment_of(files.now())),
        "summary": summary.of(content),
        "facts": facts.facts(content),
        "shared": recipes.shared,
        "missing": facts.missing(content),
        "doubts": doubts.notes(content.table, map(str, content.table.columns)),
        "troubles": facts.troubles(content),
        "grid": grid,
        "first_runs": list(content.groups),
        "runs": content.runs,
        "best": content.best if content.is_of_many or grid or content.means.empty else _best(content),
        "not_shown": _NOT_SHOWN if content.is_of_many else "",
        "figures": drawn,
        "explored": figures.averaged(_EXPLORED, content.keys),
        "data": {
            "tables": tables,
            "figures": {figure.key: [asdict(view) for view in figure.views] for figure in drawn},
            "clocks": curves.clocks(content),
            "palettes": figures.palettes(content),
            "ramp": figures.colour_scale(),
            "explored": _explored(content),
            "first_runs": list(content.groups),
            "groups": {run: first for first, members in content.groups.items() for run in members if run != first},
            "point_layouts": {"curves": point_figures.CURVES_LAYOUT, "kl": point_figures.KL_LAYOUT},
            "runs_folder": " or ".join(dict.fromkeys(str(run.folder.path.parent) for run in content.runs.values())),
            "not_shown": _NOT_SHOWN if content.is_of_many else "",
            "diffs": recipes.diffs,
        },
    }


def _explored(content: Contents) -> dict[str, str | None]:
    """The columns that are drawn against each other at first."""
    ranked = catalogue.by_interest(map(str, content.means.columns)) if len(content.means) else []
    across = content.group_keys[-1] if content.group_keys else None
    return {"across": across, "up": next(iter(ranked), None), "colour": figures.colour_key(content.group_keys)}


def _best(content: Contents) -> list[str]:
    """The first runs of the groups with the best validation ELBO."""
    return best(content.means)["run"].tolist()


def _table(frame: pd.DataFrame, keys: Sequence[str]) -> dict[str, Any]:
    """The columns with their texts and with numbers to sort by; columns that are visible at first come first."""
    names = [name for name in map(str, frame.columns) if name not in _NEVER and not name.endswith("/se")]
    names = [name for name in names if not all(map(is_missing, frame[name]))]
    ends = [name for name in ("status", "n") if name in names]
    headlines = [name for name in names if (metric := catalogue.find(name)) is not None and metric.is_headline]
    shown = list(dict.fromkeys([*keys, *ends, *catalogue.by_interest(headlines)]))
    columns = []
    for name in dict.fromkeys([*shown, *names]):
        is_number = pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name])
        column: dict[str, Any] = {"name": name, "is_shown": name in shown, "is_number": is_number}
        column["texts"] = figures.texts(frame, name)
        if metric := catalogue.find(name):
            column["is_nonnegative"] = metric.is_nonnegative
            column["about"] = f"{metric.about} ({metric.source})" if metric.source else metric.about
        if is_number:
            column["numbers"] = figures.rounded(figures.floats(frame, name))
            column["best"] = summary.best_rows(frame, name)
            column["clip"] = figures.clip({"of": figures.floats(frame, name)}).get("of")
        columns.append(column)
    return {"runs": frame["run"].tolist(), "columns": columns}


def _with_pictures(points: Sequence[dict[str, Any]], pictures: Sequence[Pictures]) -> list[dict[str, Any]]:
    return [point | asdict(images) for point, images in zip(points, pictures, strict=True)]


def _points(content: Contents, recipes: Recipes) -> list[dict[str, Any]]:
    """The content of each shown run's dialog, except its pictures."""
    seeds = dict(zip(content.table["run"], content.table["seed"], strict=True))
    place = {run: (group, i) for group in content.groups.values() for i, run in enumerate(group)}

    def point(name: str) -> dict[str, Any]:
        group, i = place[name]
        others = [group[(i + j) % len(group)] for j in range(1, min(len(group), _MAX_SEEDS + 1))]
        num_more = len(group) - 1 - len(others)
        of_seeds = {other: int(seeds[other]) for other in others}
        own = _point(name, content.runs[name], of_seeds, num_more, len(content.shown))
        return own | {"recipe": asdict(recipes.of_runs[name])}

    return [point(name) for name in content.shown]


def _point(name: str, run: Run, seeds: Mapping[str, int], num_more: int, num_points: int) -> dict[str, Any]:
    return {
        "run": name,
        "label": run.label,
        "state": run.state.state,
        "reason": run.state.reason,
        "seeds": [{"run": other, "seed": seed} for other, seed in seeds.items()],
        "num_more_seeds": num_more,
        "failure": (run.folder.read_failure() or "")[-_MAX_FAILURE_CHARACTERS:],
        "curves": point_figures.curves(run, num_points),
        "kl": point_figures.kl_bars(run),
    }
