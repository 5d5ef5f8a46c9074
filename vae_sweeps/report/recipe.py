"""How each point was made: its config, the command that trains it again, its code, and how long it took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vae_sweeps.config.keys import as_typed
from vae_sweeps.report import facts
from vae_sweeps.report.contents import Contents, Run
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system.logs import duration

_MAX_DIFF_CHARACTERS = 20_000


@dataclass(frozen=True)
class Recipe:
    """How a point was made.

    `config` has the keys in which points differ, swept ones first. `diff` is the place of the changes to the code in
    the report's list of diffs, None if there were none.
    """

    command: str
    config: dict[str, str]
    about: dict[str, str]
    diff: int | None


@dataclass
class Recipes:
    """The recipes of a report: what all points share, those of the shown points, and the diffs that these name."""

    shared: dict[str, str]
    of_runs: dict[str, Recipe]
    diffs: list[str] = field(default_factory=list)


def of(content: Contents) -> Recipes:
    """The recipes of the points that are shown one by one."""
    configs = {name: {key: as_typed(value) for key, value in run.config.items()} for name, run in content.runs.items()}
    shared = _shared(list(configs.values()))
    found = Recipes(shared, {})
    for name in content.shown:
        run, config = content.runs[name], configs[name]
        order = [key for key in content.keys if key in config] + sorted(config)
        differing = {key: config[key] for key in order if key not in shared}
        found.of_runs[name] = Recipe(run.folder.read_command(), differing, _about(run), _diff(run.folder, found.diffs))
    return found


def _shared(configs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The keys that all configs have with the same value."""
    if len(configs) < 2:
        return {}
    first, *others = configs
    return {key: first[key] for key in sorted(first) if all(other.get(key) == first[key] for other in others)}


def _about(run: Run) -> dict[str, str]:
    """Commit, device and durations, as far as they are known."""
    result = run.result
    evaluation = {part: seconds for part, seconds in result.get("evaluation_s", {}).items() if seconds is not None}
    about: dict[str, Any] = {
        "commit": result.get("git_commit"),
        "device": " on ".join(str(result[key]) for key in ("device", "host") if result.get(key)),
        "training": duration(result["time_s"]) if result.get("time_s") is not None else None,
        "evaluation": ", ".join(f"{part} {duration(seconds)}" for part, seconds in evaluation.items()),
        "finished": facts.shown(facts.moment_of(result["finished_at"])) if "finished_at" in result else None,
    }
    return {name: str(value) for name, value in about.items() if value}


def _diff(folder: RunFolder, diffs: list[str]) -> int | None:
    """The place of the point's diff in the list, to which it is added; points of a launch have the same one."""
    try:
        text = folder.code_diff.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    if len(text) > _MAX_DIFF_CHARACTERS:
        text = f"{text[:_MAX_DIFF_CHARACTERS]}\n... {len(text) - _MAX_DIFF_CHARACTERS:,} more characters in code.diff"
    if text not in diffs:
        diffs.append(text)
    return diffs.index(text)
