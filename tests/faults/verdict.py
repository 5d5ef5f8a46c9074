"""What is demanded after a fault: every point once, equal to the undisturbed one, damage named, nothing left behind."""

import contextlib
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tests.faults.scenes import Grid, Scene
from tests.helpers.checkpoints import tensors_of
from tests.helpers.processes import Ended, StuckError
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.run_folder import RunFolder

_TIMES = ("time_s", "core_s", "images_per_s")
_TRACEBACK = "Traceback (most recent call last)"
# What another pack may change: sums in another order, amplified by 300 steps of training.
_ROUNDING = 1e-3
# Files that an undisturbed sweep need not have: the checkpoint before the newest, a log, the code's changes, and what
# belongs to jobs.
_MAY_BE_THERE = re.compile(
    r"runs/RUN/(checkpoint\.prev\.pt|log\.txt|code\.diff)|sweeps/[^/]+/(jobs|code)(/.*)?|sweeps/[^/]+/jobs\.jsonl"
)


@dataclass
class Marks:
    """What a fault has done, and what follows from it.

    `damaged` are files whose damage must be said: name and folder. `mend` does by hand what a message may advise, after
    which another launch must end well. `relaunch` are the commands that end the story, by default the scene's own;
    `more` their additional arguments. The run `apart` may have trained outside its pack, so it may differ by rounding;
    its pack mates may not.
    """

    what: str
    damaged: Sequence[Path] = ()
    mend: Callable[[], None] | None = None
    relaunch: Sequence[Grid] = ()
    more: Sequence[str] = ()
    apart: str | None = None
    problems: list["Problem"] = field(default_factory=list)


@dataclass(frozen=True)
class Problem:
    """A demand that was not met: lost, twice, unequal, silent, stray, traceback, code or stuck."""

    kind: str
    text: str
    is_raised: bool = False  # the text is what a reader raised, so it says what is damaged


def judge(scene: Scene, marks: Marks) -> tuple[list[Problem], str]:
    """Launch the sweep again, and hold it against the demands; returns the problems, and how it ended if well."""
    problems = list(marks.problems)
    found, said = _relaunch(scene, marks)
    silent = [path for path in marks.damaged if not _is_said(path, said)]
    problems += [Problem("silent", f"{path.parent.name}/{path.name} is not mentioned") for path in silent]
    note = "equal, said" if marks.damaged else "equal"
    if found and marks.damaged and not silent and marks.mend is not None:
        marks.mend()
        found, _ = _relaunch(scene, marks)
        note = "said, and equal when mended by hand"
    problems += found
    if any(_TRACEBACK in ended.output for ended in scene.ended):
        problems.append(Problem("traceback", _last_line(next(e for e in scene.ended if _TRACEBACK in e.output))))
    return problems, note


def _relaunch(scene: Scene, marks: Marks) -> tuple[list[Problem], str]:
    """The problems after a launch of every command, and all that was said."""
    problems, said = [], ""
    grids = list(marks.relaunch or [scene.grid])
    for grid in grids:
        try:
            ended = scene.launch(*marks.more, grid=grid)
        except StuckError as error:
            return [Problem("stuck", str(error))], ""
        said += ended.output
        if ended.code != 0:
            problems.append(Problem("code", f"{ended.code}: {_last_line(ended)}"))
    said += _logs_of_jobs(scene) if marks.more else ""
    said += scene.ask("doctor", scene.sweep.path).output if _has_doctor(scene) else ""
    with _heard() as lines:
        problems += differences(scene, grids, marks.apart)
    return problems, said + "\n".join([*lines, *(problem.text for problem in problems if problem.is_raised)])


def _logs_of_jobs(scene: Scene) -> str:
    """What jobs have printed."""
    paths = [path for path in scene.sweep.jobs.glob("*") if path.suffix in (".out", ".err")]
    return "".join(path.read_text(errors="replace") for path in sorted(paths))


def _has_doctor(scene: Scene) -> bool:
    """Whether there is the command that checks all files, also those that no launch reads."""
    if not hasattr(scene.stock, "has_doctor"):
        running = scene.stock.zygote.start("vae-sweeps", "doctor", "--help")
        scene.stock.has_doctor = running.wait().code == 0  # type: ignore[attr-defined]
    return scene.stock.has_doctor  # type: ignore[attr-defined]


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """What the package logs in this process while it reads."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    package = logging.getLogger("vae_sweeps")
    package.addHandler(handler)
    try:
        yield lines
    finally:
        package.removeHandler(handler)


def _is_said(path: Path, text: str) -> bool:
    """Whether the text names the file, in the folder that has it."""
    return f"{path.parent.name}/{path.name}" in text.replace("\n", "") or (
        path.name in text and path.parent.name in text
    )


def differences(scene: Scene, grids: Sequence[Grid], apart: str | None = None) -> list[Problem]:
    """What distinguishes the output folder from undisturbed ones of these sweeps."""
    references = {grid: scene.stock.reference(grid) for grid in grids}
    expected = {run.name: run for grid, out in references.items() for run in all_runs(out) if grid.has(run)}
    present = {run.name: run for run in scene.runs()}
    problems = [Problem("lost", name) for name in expected.keys() - present.keys()]
    try:
        listed = Counter(run.name for run in scene.sweep.runs())
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        problems.append(Problem("unequal", f"{scene.sweep.path}: {type(error).__name__}: {error}", True))
    else:
        problems += [Problem("lost", f"{name}: not in the sweep") for name in expected.keys() - listed.keys()]
        problems += [Problem("twice", f"{name}: twice in the sweep") for name, n in listed.items() if n > 1]
    for name in sorted(expected.keys() & present.keys()):
        problems += _of_run(present[name], expected[name], may_round=name == apart)
    return problems + _strays(scene.out, list(references.values()))


def _of_run(run: RunFolder, expected: RunFolder, *, may_round: bool) -> list[Problem]:
    try:
        result = run.read_result()
        if result is None or result.get("status") != "done":
            return [Problem("lost", f"{run.name}: {'no result' if result is None else result.get('status')}")]
        rows, expected_rows = _timeless(run), _timeless(expected)
        problems = []
        if may_round and _are_close(rows, expected_rows):
            return []
        if (steps := [row["step"] for row in rows]) != (wanted := [row["step"] for row in expected_rows]):
            repeated = len(set(steps)) < len(steps)
            problems.append(Problem("twice" if repeated else "unequal", f"{run.name}/metrics.jsonl: {steps}"))
            assert len(wanted) == len(set(wanted))
        elif rows != expected_rows:
            problems.append(Problem("unequal", f"{run.name}/metrics.jsonl: {_first_difference(rows, expected_rows)}"))
        if result["metrics"] != (wanted_result := expected.read_result() or {})["metrics"]:
            problems.append(Problem("unequal", f"{run.name}/result.json: other metrics"))
        if result["step"] != wanted_result["step"]:
            problems.append(Problem("unequal", f"{run.name}/result.json: step {result['step']}"))
        return problems + _of_checkpoints(run, expected)
    except Exception as error:  # whatever reading damaged files raises
        return [Problem("unequal", f"{run.name}: {type(error).__name__}: {error}", True)]


def _of_checkpoints(run: RunFolder, expected: RunFolder) -> list[Problem]:
    found, wanted = checkpoint.available(run), checkpoint.available(expected)[0]
    if not found:
        return [Problem("unequal", f"{run.name}/checkpoint.pt: none")]
    if found[0].step != wanted.step:
        return [Problem("unequal", f"{run.name}/checkpoint.pt: step {found[0].step}")]
    tensors, others = tensors_of(found[0]), tensors_of(wanted)
    if tensors.keys() != others.keys() or not all(torch.equal(tensors[key], others[key]) for key in others):
        return [Problem("unequal", f"{run.name}/checkpoint.pt: other tensors")]
    return []


def _are_close(rows: list[dict], others: list[dict]) -> bool:
    """Whether the rows have the same steps, and almost the same losses."""
    if [row["step"] for row in rows] != [row["step"] for row in others]:
        return False
    losses = [(row["train/loss"], other["train/loss"]) for row, other in zip(rows, others, strict=True)]
    return all(math.isclose(loss, other, rel_tol=_ROUNDING) for loss, other in losses)


def _timeless(run: RunFolder) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in _TIMES} for row in run.read_rows()]


def _first_difference(rows: list[dict], others: list[dict]) -> str:
    row, other = next((a, b) for a, b in zip(rows, others, strict=True) if a != b)
    key = next((key for key in other if row.get(key) != other[key]), None)
    return f"step {other['step']}: {key} {row.get(key)} instead of {other.get(key)}" if key else f"more keys: {row}"


def _strays(out: Path, references: Sequence[Path]) -> list[Problem]:
    """Files and folders whose kind no undisturbed sweep has."""
    known = {pattern for reference in references for _, pattern in _patterns(reference)}
    strays = [path for path, pattern in _patterns(out) if pattern not in known and not _MAY_BE_THERE.fullmatch(pattern)]
    return [Problem("stray", str(path.relative_to(out))) for path in strays if not _is_empty_claim(path)]


def _is_empty_claim(path: Path) -> bool:
    """Whether a kill left the folder of a claim between two calls of the system; it goes after a lease's duration."""
    return path.name.startswith(".claim-") and path.suffix == ".new" and path.is_dir() and not any(path.iterdir())


def _patterns(out: Path) -> list[tuple[Path, str]]:
    """Every path below the folder, with RUN for the name of a run, and LIST for that of a launch's list of points."""
    paths = sorted(out.rglob("*"))
    names = [re.sub(r"^runs/[^/]+", "runs/RUN", str(path.relative_to(out))) for path in paths]
    return [
        (path, re.sub(r"/points/\d+-\w+\.json$", "/points/LIST", name)) for path, name in zip(paths, names, strict=True)
    ]


def _last_line(ended: Ended) -> str:
    lines = ended.output.strip().splitlines()
    return lines[-1][:200] if lines else "no output"
