"""The tables of what was measured on a GPU, for a terminal and in Markdown. Imports no torch."""

import itertools
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import rounds
from benchmarks.tables import PROGRAMS, Table, markdown

FOLDER = Path(__file__).parents[1] / "results"
NONE_YET = "No GPU has been measured yet.\n"
_OF_MODELS = "bare products"


def about(content: dict[str, Any]) -> str:
    """A paragraph: the card and the versions, and how long it took."""
    of, settings = content["machine"], content["settings"]
    names = ("driver", "cuda", "cudnn", "python", "vae-sweeps", "torch", "jax")
    versions = ", ".join(f"{name} {of[name]}" for name in names if of[name] is not None)
    took = f" It took {content['took_s']:.0f} s." if "took_s" in content else ""
    turns = f"{settings['turns']} turns of {settings['seconds']} s"
    return f"Measured on {of['card']} on {of['date']}, with {versions}, in {turns}.{took}\n"


def training(rows: Sequence[dict[str, Any]]) -> Table:
    """One network in one precision: each program with K models. Ratios are those of the medians."""
    medians = {(row["name"], row["k"]): statistics.median(row["ms"]) for row in rows}
    head = ["", "K", "ms per step and point", "of the tight loop", "of JAX with K models", "images/s", "peak memory"]
    shown = [[*head, "ELBO"]]
    order = list(PROGRAMS)
    for row in sorted(rows, key=lambda row: (-order.index(row["name"]), row["k"])):
        ms = medians[row["name"], row["k"]]
        bases = (medians.get(("tight", 1)), medians.get(("jax", row["k"])))
        against = ["" if base is None else rounds.significant(ms / base, 2) for base in bases]
        speed = rounds.median(row["images_per_s"])
        elbo = "" if row["elbo"] is None else f"{row['elbo']:,.1f}"
        program = _OF_MODELS if row["name"] == "bare" else PROGRAMS[row["name"]]
        figures = [rounds.spread(row["ms"], 3), *against, speed, _gib(row["peak_bytes"]), elbo]
        shown.append([program, str(row["k"]), *figures])
    return shown


def _gib(num_bytes: int | None) -> str:
    return "" if num_bytes is None else f"{rounds.significant(num_bytes / 2**30, 2)} GiB"


def first_step(rows: Sequence[dict[str, Any]]) -> Table:
    shown = [["", "K", "from the start of the process", "from the first pack's creation", "from a later pack's"]]
    for row in rows:
        first, *later = row["from_pack_s"]
        times = [rounds.significant(row["from_process_start_s"], 3), rounds.significant(first, 3), rounds.spread(later)]
        shown.append([row["case"], str(row["k"]), *(f"{time} s" for time in times)])
    return shown


def profiles(rows: Sequence[dict[str, Any]]) -> Table:
    """How much of a step the device is busy."""
    head = ["", "K", "CUDA graphs", "ms per step", "ms on the device", "busy"]
    shown = [[*head, "kernels per step", "copies per step", "launches per step"]]
    for row in rows:
        busy = "" if row["busy_share"] is None else f"{row['busy_share']:.0%}"
        keys = ("ms_per_step", "device_ms_per_step")
        times = ["" if row[key] is None else rounds.significant(row[key], 3) for key in keys]
        counts = [row[f"{what}_per_step"] for what in ("kernels", "copies", "launches")]
        shown_counts = ["" if count is None else f"{count:,.0f}" for count in counts]
        shown.append([row["case"], str(row["k"]), row["graphs"], *times, busy, *shown_counts])
    return shown


def operations(row: dict[str, Any], kind: str) -> Table:
    """The operations or the kernels of one profile."""
    shown = [["", "ms per step", "share", "calls per step"]]
    for found in row[kind]:
        name = found["name"].replace("|", " ")
        name = name if len(name) <= 80 else f"{name[:77]}..."
        calls = rounds.significant(found["calls_per_step"], 2)
        shown.append([name, rounds.significant(found["ms_per_step"], 3), f"{found['share']:.0%}", calls])
    return shown


def values(rows: Sequence[dict[str, Any]], key: str, unit: str) -> Table:
    """A value for each thing that was measured, with the network if it is of one."""
    return [["", "", unit], *([row.get("case", ""), row["what"], rounds.spread(row[key], 3)] for row in rows)]


def ends(content: dict[str, Any]) -> Table:
    """Contestants that failed, and what was left out."""
    shown = [["", "why there are no figures"]]
    for end in content["ended"]:
        shown.append([f"{end['case']}, {end['precision']}, {end['name']}, K = {end['k']} and more", end["why"]])
    return shown + [[entry["what"], entry["why"]] for entry in content["left_out"]]


def _of_training(content: dict[str, Any]) -> list[tuple[str, Table]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in content["training"]:
        found.setdefault((row["case"], row["precision"]), []).append(row)
    cases = list(dict.fromkeys(case for case, _ in found))
    ordered = sorted(found.items(), key=lambda item: cases.index(item[0][0]))
    return [(f"{case}, batch {rows[0]['batch_size']}, {name}", training(rows)) for (case, name), rows in ordered]


def _of_profiles(content: dict[str, Any]) -> list[tuple[str, Table]]:
    rows = content["profile"]
    found = [("How busy the device is", profiles(rows))]
    for row, kind in itertools.product(rows, ("operations", "kernels")):
        if row[kind]:
            of = f"{row['case']}, K = {row['k']}, graphs {row['graphs']}"
            found.append((f"{of}: {kind} that take the most time", operations(row, kind)))
    return found


def sections(content: dict[str, Any]) -> dict[str, list[tuple[str, Table]]]:
    """The titled tables of each part that has any."""
    found = {
        "training": _of_training(content),
        "convolutions": [
            ("Ways to compute K convolutional networks", values(content["convolutions"], "ms", "ms per model"))
        ],
        "first-step": [("Time to the first step", first_step(content["first_step"]))],
        "profile": _of_profiles(content),
        "evaluation": [("Evaluation of a point", values(content["evaluation"], "seconds", "s"))],
        "reading": [("Decoding, encoding and reading", values(content["reading"], "images_per_s", "images/s"))],
        "tracker": [("Tracker", values(content["tracker"], "of_none", "of a step without"))],
        "left-out": [("What has no figures", ends(content))],
    }
    return {name: [(title, table) for title, table in parts if len(table) > 1] for name, parts in found.items()}


def titled(content: dict[str, Any]) -> list[tuple[str, Table]]:
    """All tables of a file with their titles."""
    return [part for parts in sections(content).values() for part in parts]


def contents(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """What was measured on each card, by the names of the files."""
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]


def rendered(measured: Iterable[dict[str, Any]]) -> dict[str, str]:
    """The text of each place of the documents that quotes a GPU, by its name: `gpu-training`, `gpu-profile`, ..."""
    empty = {
        "settings": {},
        "training": [],
        "convolutions": [],
        "first_step": [],
        "profile": [],
        "evaluation": [],
        "reading": [],
    }
    empty |= {"tracker": [], "ended": [], "left_out": []}
    texts: dict[str, list[str]] = {"gpu-machine": [], **{f"gpu-{name}": [] for name in sections(empty)}}
    for content in measured:
        texts["gpu-machine"].append(about(content))
        for name, parts in sections(content).items():
            card = content["machine"]["card"]
            texts[f"gpu-{name}"] += [f"{title} ({card}):\n\n{markdown(table)}" for title, table in parts]
    found = {name: "\n".join(parts) for name, parts in texts.items()}
    return found | {"gpu-machine": found["gpu-machine"] or NONE_YET}
