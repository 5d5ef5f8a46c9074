"""The sections of facts and of missing content: command, code, data, time and cost; what is missing, and why."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vae_sweeps.analysis import table
from vae_sweeps.config.identity import short_name
from vae_sweeps.config.keys import as_typed
from vae_sweeps.report.contents import Contents, Run
from vae_sweeps.runs import states
from vae_sweeps.system import files
from vae_sweeps.system.logs import duration

_S_PER_H = 3600
_ENDED_BADLY = ("failed", "diverged", "interrupted", "preempted", "lost")


@dataclass(frozen=True)
class Fact:
    """A line of the section of facts; if `is_code`, its values are shown in a code font."""

    name: str
    values: list[str]
    is_code: bool = False


@dataclass(frozen=True)
class Trouble:
    """A point that did not finish, and the reason."""

    run: str
    label: str
    state: str
    reason: str


def facts(contents: Contents) -> list[Fact]:
    """List command, points, data, commit, machine, time and cost; unknown facts are left out."""
    results = [run.result for run in contents.runs.values() if run.result]
    launches = [launch for sweep in contents.sweeps for launch in sweep.launches]
    commands = dict.fromkeys(_typed(*map(str, launch["command"])) for launch in launches)
    all_facts = [
        Fact("command", list(commands), is_code=True),
        Fact("points", [states.counts(contents.points)]),
        Fact("swept", [", ".join(contents.keys)] if contents.keys else []),
        Fact("data", _data(contents)),
        Fact("commit", _distinct(results, "git_commit"), is_code=True),
        Fact("machine", list(dict.fromkeys(_machine(result) for result in results if "host" in result))),
        Fact("evaluation", _evaluation(results), is_code=True),
        Fact("time", _time(launches, results)),
        Fact("cost", _cost(results)),
    ]
    return [fact for fact in all_facts if fact.values]


def _distinct(results: Iterable[Mapping[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(str(result[key]) for result in results if result.get(key) is not None))


def _typed(program: str, *arguments: str) -> str:
    """The command of a launch, by launch.py or by `vae-sweeps launch`."""
    return shlex.join([*(program.split() if program == "vae-sweeps launch" else ["python", program]), *arguments])


def _machine(result: Mapping[str, Any]) -> str:
    return f"{result['device']} on {result['host']}, torch {result['torch']}"


def _data(contents: Contents) -> list[str]:
    """Each data set as `mnist5k, fingerprint 4cb9b1d7a6ecc88a`; only its name until a run has ended."""
    names = contents.table["data"] if len(contents.table) else []
    fingerprints = [run.result.get("data_fingerprint") for run in contents.runs.values()]
    pairs = list(dict.fromkeys(zip(names, fingerprints, strict=True)))
    known = {name for name, fingerprint in pairs if fingerprint}
    return [
        f"{name}, fingerprint {fingerprint}" if fingerprint else name
        for name, fingerprint in pairs
        if fingerprint or name not in known
    ]


def _evaluation(results: list[Mapping[str, Any]]) -> list[str]:
    """The settings of each part of the evaluation, once for each combination of values."""
    texts: dict[str, None] = {}
    for result in results:
        for part, settings in result.get("evaluated", {}).items():
            texts[f"{part}: {' '.join(f'{key}={_setting(value)}' for key, value in settings.items())}"] = None
    return list(texts)


def _setting(value: Any) -> str:
    """The value as it is typed; features by their name, since their weights' hash is in the table if it matters."""
    return short_name(value["_target_"]) if isinstance(value, Mapping) and "_target_" in value else as_typed(value)


def _time(launches: list[dict[str, Any]], results: list[Mapping[str, Any]]) -> list[str]:
    began = [launch["at"] for launch in launches]
    ended = [result["finished_at"] for result in results if "finished_at" in result]
    if not began:
        return []
    first = min(map(moment_of, began))
    if not ended:
        return [f"launched {shown(first)}"]
    last = max(map(moment_of, ended))
    again = f", launched {len(began)} times" if len(began) > 1 else ""
    return [f"launched {shown(first)}, last point finished {shown(last)}{again}"]


def moment_of(text: str) -> datetime:
    """Parse a time that `files.now` wrote."""
    return datetime.strptime(text, files.TIME_FORMAT)


def shown(moment: datetime) -> str:
    """Format a time for people."""
    return moment.strftime("%Y-%m-%d %H:%M UTC%z").replace("UTC+0000", "UTC")


def _cost(results: list[Mapping[str, Any]]) -> list[str]:
    """Sum the cost of all points: a point's `time_s` is its share of its pack's time, on each of its devices."""
    if not results:
        return []
    training_s = sum((result.get("time_s") or 0.0) * result.get("num_devices", 1) for result in results)
    evaluation_s = sum(sum(result.get("evaluation_s", {}).values()) for result in results)
    total_h = (training_s + evaluation_s) / _S_PER_H
    parts = f"training {duration(training_s)}, evaluation {duration(evaluation_s)}"
    return [
        f"{total_h:.3g} device-hours: {parts}, of {len(results)} points that have ended, without time lost at kills"
    ]


def troubles(contents: Contents) -> list[Trouble]:
    """The points that failed, diverged or stopped, with the reasons."""
    return [_trouble(name, run) for name, run in contents.runs.items() if run.state.state in _ENDED_BADLY]


def _trouble(name: str, run: Run) -> Trouble:
    progress = run.state.progress
    reason = run.state.reason or (f"stopped at {progress:.0%}" if progress is not None else "no reason was recorded")
    return Trouble(name, run.label, run.state.state, reason)


def missing(contents: Contents) -> list[str]:
    """One sentence for each thing that the report lacks."""
    sentences = list(contents.notes)
    moving = [point for point in contents.points if point.state in ("running", "queued", "pending")]
    if not any(point.state == "done" for point in contents.points):
        sentences.append("No point is finished yet, so there are no test metrics.")
    if moving:
        sentences.append(f"Not finished: {states.counts(moving)}.")
    if contents.gone:
        sentences.append(f"Runs without a folder, or without an intact config.yaml: {', '.join(contents.gone)}.")
    for reason, runs in table.reasons({name: run.result for name, run in contents.runs.items()}).items():
        sentences.append(f"{reason} ({contents.runs[runs[0]].label if len(runs) == 1 else f'{len(runs)} points'})")
    return sentences
