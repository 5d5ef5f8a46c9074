"""Measure one NVIDIA GPU in less than eight minutes, or show what was measured.

    python -m benchmarks.gpu [--budget-s 480] [--to FILE]
    python -m benchmarks.gpu --show FILE

Packs of K models train beside a loop written for speed, the same loop compiled, JAX, and the bare products; then follow
the first step, profiles, evaluation, reading and the tracker. `benchmarks.gpu.plan` has the order. A turn is a run of
steps between two times at which the GPU has nothing to do. The file is written after each row, and lists what there was
no time for. --device cpu runs the same on a CPU, which tests it.
"""

import argparse
import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import environment
from benchmarks.cases import CASES, Case
from benchmarks.gpu import plan, results, scripts, steps, tables
from benchmarks.gpu.plan import Item
from benchmarks.gpu.results import Budget, Results, Settings
from benchmarks.processes import FailedError
from vae_sweeps.system import machine

# An item is not begun with less time than this, in seconds.
_LEAST_S = 10.0
_MODULES = {
    "convolutions": "convolutions",
    "first_step": "first_step",
    "profile": "profiling",
    "evaluation": "evaluation",
    "reading": "reading",
    "tracker": "tracker",
}


def measure(items: Sequence[Item], cases: Sequence[Case], settings: Settings, to: Path) -> Results:
    """Measure items in their order until the time is over; the file `to` has the results meanwhile."""
    found, budget = Results(to, settings, items), Budget(settings.budget_s)
    of_name = {case.name: case for case in cases}
    for item in items:
        found.begin(item)
        reason = plan.reason_to_leave_out(item, settings.device)
        if reason is None and budget.left_s < _LEAST_S:
            reason = "no time was left"
        if reason is not None:
            found.leave_out(item, reason)
            continue
        print(f"{budget.used_s:.0f} s: {item}", file=sys.stderr, flush=True)
        try:
            if item.kind == "training":
                steps.measure(item, of_name[item.case], settings, budget, found)
            else:
                _ask(item, of_name.get(item.case), settings, budget, found)
        except (OSError, RuntimeError, ValueError) as error:  # the other items may be well
            found.leave_out(item, f"{type(error).__name__}: {error}")
    found.content["took_s"] = round(budget.used_s, 1)
    found.write()
    return found


def _ask(item: Item, case: Case | None, settings: Settings, budget: Budget, found: Results) -> None:
    """Ask the script of an item, once for each number of models."""
    module = _MODULES[item.kind]
    for k in item.ks or (None,):
        label = item if k is None else dataclasses.replace(item, ks=(k,))
        what = {"device": settings.device, "seconds": settings.seconds, "turns": settings.turns, "k": k}
        try:
            if case is None:
                answer = scripts.ask(module, what, found.log, budget.left_s)
            else:
                with scripts.specified(case, settings.device) as specification:
                    what |= {"case": specification, "began": time.monotonic()}
                    answer = scripts.ask(module, what, found.log, budget.left_s)
        except FailedError as error:
            found.leave_out(label, "no time was left" if budget.left_s < 1 else str(error))
            continue
        which = {} if case is None else {"case": case.name}
        which |= {} if k is None else {"k": k}
        for row in answer if isinstance(answer, list) else [answer]:
            found.add(item.kind, which | row)


def _chosen(asked: argparse.Namespace) -> list[Item]:
    """The items of the cases and kinds that were asked for, with at most so many models."""
    found = []
    for item in plan.plan():
        ks = tuple(k for k in item.ks if k <= asked.largest)
        names = tuple(name for name in item.names if name in asked.programs)
        is_wanted = item.kind in asked.kinds and item.case in [*asked.cases, ""]
        if is_wanted and (ks or not item.ks) and names:
            found.append(dataclasses.replace(item, ks=ks, names=names))
    return found


def _peers_python(asked: str | None) -> str | None:
    """A Python that has JAX; None, with a message, if there is none and pip cannot make one."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        python = asked or environment.python_with_jax()
        if results.jax_version(python) is not None:
            return python
    print("JAX is left out: no Python has it; see --peers-python", file=sys.stderr)
    return None


def show(file: Path) -> None:
    """Print the tables of a file."""
    content = json.loads(file.read_text())
    console = Console(width=140)
    console.print(tables.about(content))
    for title, (head, *rows) in tables.titled(content):
        shown = Table(*head, title=title, title_justify="left")
        for row in rows:
            shown.add_row(*row)
        console.print(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [case.name for case in CASES]
    parser.add_argument("--show", type=Path, metavar="FILE", help="print the tables of a file, and measure nothing")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget-s", type=float, default=480, metavar="N", help="seconds that all may take")
    parser.add_argument("--to", type=Path, metavar="FILE", help="default: benchmarks/results/CARD.json")
    parser.add_argument("--peers-python", metavar="PATH", help="the Python of JAX; default: this one if it has it")
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE")
    parser.add_argument("--kinds", nargs="+", choices=plan.KINDS, default=plan.KINDS, metavar="KIND")
    parser.add_argument("--programs", nargs="+", choices=plan.PROGRAMS, default=plan.PROGRAMS, metavar="PROGRAM")
    parser.add_argument("--largest", type=int, default=512, metavar="K", help="the most models that train together")
    parser.add_argument("--seconds", type=float, default=0.2, help="of a turn")
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    if asked.show:
        show(asked.show)
        return
    try:
        machine.resolve_device(asked.device)
    except ValueError as error:
        sys.exit(str(error))
    python = _peers_python(asked.peers_python) if "jax" in asked.programs else None
    if python is None:
        asked.programs = [name for name in asked.programs if name != "jax"]
    settings = Settings(asked.device, asked.seconds, asked.turns, asked.budget_s, python)
    to = asked.to or results.FOLDER / f"{results.slug(results.machine(settings)['card'])}.json"
    measure(_chosen(asked), CASES, settings, to)
    show(to)


if __name__ == "__main__":
    main()
