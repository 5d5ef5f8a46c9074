"""Inject faults: `python -m tests.faults.campaign --faults 300 --seed 0 [--only NAME] [--log FILE] [--keep FOLDER]`.

Each fault disturbs a sweep of six to nine points; then the same command is launched again, and the sweep is held
against an undisturbed one (verdict.py). A fault's choices follow from the seed, its name, and how often it has happened
before, so `--only NAME` repeats them; but how far a process is when a signal reaches it is not the same each time.

Prints a line for each fault and a table at the end; the exit code is 1 if a demand was not met.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.faults import Fault, all_faults, kinds_of
from tests.faults.scenes import Grid, Stock
from tests.faults.verdict import Problem, judge
from tests.helpers.processes import StuckError

_COLUMNS = ("lost", "twice", "silent", "unequal", "stray", "traceback", "code", "stuck")


@dataclass(frozen=True)
class Outcome:
    """A fault that was injected, and what came of it."""

    number: int
    repeat: int
    fault: Fault
    grid: Grid
    what: str
    note: str
    problems: Sequence[Problem]
    seconds: float

    def line(self) -> str:
        found = "; ".join(f"{problem.kind.upper()} {problem.text}" for problem in self.problems)
        name = f"{self.fault.name}#{self.repeat}"
        return (
            f"{self.number:4}  {name:<34} {self.grid.name:<10} {self.what}: {found or self.note} [{self.seconds:.1f} s]"
        )


def inject(
    fault: Fault, number: int, repeat: int, seed: int, stock: Stock, grids: Sequence[Grid], keep: Path | None
) -> Outcome:
    """Let one fault happen, for the `repeat`th time, and judge what follows."""
    rng = random.Random(f"{seed}-{fault.name}-{repeat}")
    grid = rng.choice([grid for grid in fault.grids if not grids or grid in grids])
    stock.reference(grid)
    folder = stock.folder / f"fault-{number}"
    scene, began = stock.scene(folder, grid, rng), time.monotonic()
    what, note, problems = "", "", []
    try:
        marks = fault.inflict(scene)
        what = marks.what
        problems, note = judge(scene, marks)
    except StuckError as error:
        problems = [Problem("stuck", str(error))]
    except Exception as error:  # the harness's own mistakes must not pass for success, nor end the campaign
        problems = [Problem("stuck", f"{type(error).__name__}: {error} {traceback.format_exc()[-600:]}")]
    if problems and keep is not None:
        shutil.copytree(folder, keep / f"fault-{number}", symlinks=True, dirs_exist_ok=True)
        texts = [f"exit code {ended.code}\n{ended.output}" for ended in scene.ended]
        (keep / f"fault-{number}" / "launches.txt").write_text("\n----\n".join(texts))
    scene.clean()
    shutil.rmtree(folder, ignore_errors=True)
    return Outcome(number, repeat, fault, grid, what, note, problems, time.monotonic() - began)


def campaign(
    num: int,
    seed: int,
    folder: Path,
    *,
    only: Sequence[str] = (),
    grids: Sequence[Grid] = (),
    say: Callable[[str], None] = print,
    keep: Path | None = None,
) -> list[Outcome]:
    """Inject `num` faults whose names begin with one of `only`, and which can happen on `grids`; empty: on any."""
    faults = [f for f in all_faults() if not only or any(f.name.startswith(name) for name in only)]
    faults = [f for f in faults if not grids or set(f.grids) & set(grids)]
    for reason in dict.fromkeys(reason for f in faults if (reason := f.why_not())):
        say(f"left out: {', '.join(f.name for f in faults if f.why_not() == reason)}: {reason}")
    by_kind: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        if fault.why_not() is None:
            by_kind[fault.kind].append(fault)
    if not by_kind:
        raise SystemExit("no such fault: " + ", ".join(f.name for f in all_faults()))
    for kind in sorted(by_kind):
        random.Random(f"{seed}-{kind}").shuffle(by_kind[kind])  # a short campaign takes some of them
    stock, outcomes = Stock(folder, seed), []
    num_of_kind: Counter[str] = Counter()
    try:
        for number, kind in enumerate(kinds_of(num, sorted(by_kind))):
            repeat, which = divmod(num_of_kind[kind], len(by_kind[kind]))
            num_of_kind[kind] += 1
            outcomes.append(inject(by_kind[kind][which], number, repeat, seed, stock, grids, keep))
            say(outcomes[-1].line())
    finally:
        stock.close()
    return outcomes


def summary(outcomes: Sequence[Outcome], seed: int) -> str:
    """A table: how many faults of each kind there were, and how many did not meet each demand."""
    kinds = dict.fromkeys(outcome.fault.kind for outcome in outcomes)
    lines = ["  ".join(["kind      ", "faults", *(f"{name:>9}" for name in _COLUMNS)])]
    for kind in (*kinds, "all"):
        chosen = [o for o in outcomes if kind in (o.fault.kind, "all")]
        counts = [sum(any(p.kind == name for p in o.problems) for o in chosen) for name in _COLUMNS]
        lines.append("  ".join([f"{kind:<10}", f"{len(chosen):6}", *(f"{count:9}" for count in counts)]))
    minutes = sum(outcome.seconds for outcome in outcomes) / 60
    notes = Counter(outcome.note for outcome in outcomes if not outcome.problems)
    ends = ", ".join(f"{n} {note}" for note, n in notes.most_common())
    failed = sum(bool(outcome.problems) for outcome in outcomes)
    lines.append(f"{len(outcomes)} faults, seed {seed}, {minutes:.0f} min: {ends or 'none well'}; {failed} failed")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=300, help="how many (default 300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", default=[], help="a name, or how it begins: damage, kill/SIGKILL")
    parser.add_argument("--log", type=Path, help="file that gets the lines too")
    parser.add_argument("--keep", type=Path, help="folder for the sweeps of faults that failed")
    parser.add_argument("--list", action="store_true", help="print the names of all faults")
    options = parser.parse_args()
    if options.list:
        print("\n".join(fault.name for fault in all_faults()))
        return

    def say(line: str) -> None:
        print(line, flush=True)
        if options.log is not None:
            with options.log.open("a") as file:
                file.write(line + "\n")

    with tempfile.TemporaryDirectory(prefix="vs-faults-") as folder:
        chosen = {"only": options.only, "say": say, "keep": options.keep}
        outcomes = campaign(options.faults, options.seed, Path(folder), **chosen)
    say(summary(outcomes, options.seed))
    sys.exit(any(outcome.problems for outcome in outcomes))


if __name__ == "__main__":
    main()
