"""Training steps: programs that train K models of a case, each alone on the device."""

import time
from typing import Any

from benchmarks.cases import Case
from benchmarks.gpu.plan import OF_ONE, Item
from benchmarks.gpu.results import Budget, Results, Settings
from benchmarks.gpu.scripts import specified
from benchmarks.processes import FailedError, OutOfMemoryError, Processes

# A contestant is not begun with less time, and ends if an answer takes longer: XLA may compile for minutes.
_LEAST_S, _PATIENCE_S = 5.0, 75.0
# XLA's allocator keeps the memory that it has taken. A process that has taken more is ended before others are measured.
_KEPT_BYTES = 8 << 30
# Steps that are learned with one model, and the last of them, whose ELBO is compared.
_LEARNED, _COMPARED = 200, 100


def measure(item: Item, case: Case, settings: Settings, budget: Budget, results: Results) -> None:
    """Add a row for each program and number of models, or say why there is none.

    After a failure, as for lack of memory, more models are not tried.
    """
    with (
        specified(case, settings.device) as asked,
        Processes(asked, settings.peers_python, results.log) as processes,
    ):
        for name in item.names:
            processes.start(name)
        for k in item.ks:
            for name in item.names:
                label = Item("training", case.name, (k,), item.precision, (name,))
                if name in OF_ONE and k > 1:
                    continue
                if results.has_ended(case.name, name, item.precision, k):
                    results.leave_out(label, "so many or fewer models failed")
                elif budget.left_s < _LEAST_S:
                    results.leave_out(label, "no time was left")
                else:
                    _add_row(processes, case, label, settings, budget, results)


def _add_row(
    processes: Processes, case: Case, label: Item, settings: Settings, budget: Budget, results: Results
) -> None:
    (name,), (k,) = label.names, label.ks

    def ask(do: str, **what: Any) -> dict[str, Any]:
        patience_s = max(1.0, min(_PATIENCE_S, budget.left_s))
        return processes.ask(name, k, patience_s=patience_s, do=do, precision=label.precision, **what)

    began = time.monotonic()
    try:
        elbo = ask("learn", steps=_LEARNED, last=_COMPARED)["elbo"] if k == 1 and name != "bare" else None
        num_params = ask("prepare")["num_params"]
        prepare_s = time.monotonic() - began
        turns = [ask("run", seconds=settings.seconds) for _ in range(settings.turns)]
        ask("drop")
    except OutOfMemoryError as error:
        processes.end(name)
        results.end(case.name, name, label.precision, k, f"out of memory: {error}")
        return
    except FailedError as error:
        if budget.left_s < 1:
            results.leave_out(label, "no time was left")
        else:
            results.end(case.name, name, label.precision, k, str(error))
        return
    ms, peak = [turn["ms"] for turn in turns], turns[-1]["peak_bytes"]
    row = {
        "case": case.name,
        "batch_size": case.point.batch_size,
        "name": name,
        "k": k,
        "precision": label.precision,
        "ms": ms,
        "images_per_s": [1e3 * case.point.batch_size / of_turn for of_turn in ms],
        "peak_bytes": peak,
        "elbo": elbo,
        "num_params": num_params,
        "prepare_s": round(prepare_s, 2),
    }
    results.add("training", row)
    if name == "jax" and peak is not None and peak > _KEPT_BYTES:
        processes.end(name)
