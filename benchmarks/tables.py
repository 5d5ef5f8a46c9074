"""The tables that README and docs quote, in Markdown, from what `make bench` measured. Imports no torch."""

from collections.abc import Sequence
from typing import Any

from benchmarks import rounds

Table = list[list[str]]  # the head and the rows

PROGRAMS = {
    "bare": "bare products of one model",
    "tight": "tight PyTorch loop, fused Adam",
    "compiled": "tight PyTorch loop, `torch.compile`",
    "vmap": "`torch.func.vmap` ensemble",
    "jax": "JAX `vmap`",
    "pythae": "pythae",
    "pack": "**pack**",
    "pack-no-graphs": "pack without CUDA graphs",
    "pack-3-rates": "pack, 3 learning rates",
    "pack-9-rates": "pack, 9 learning rates",
}
JOBS = {"sweep": "**`launch.py -m`**", "stock": "nine runs of a plain PyTorch script", "jax": "one JAX script"}
PARTS = ("training", "main_job", "growth", "services")
SPLITS = ("train", "val", "test")


def training(measured: dict[str, Any]) -> Table:
    """One network: each program with K models."""
    times = {(row["name"], row["k"]): row["ms"] for row in measured["rows"]}
    shown = [["", "K", "ms per step and point", "of the tight loop", "of JAX with K models", "ELBO"]]
    for row in measured["rows"]:
        against = []
        for base in (("tight", 1), ("jax", row["k"])):
            values = times.get(base, [])[-len(row["ms"]) :]
            against.append(rounds.spread(rounds.ratios(row["ms"], values)) if values else "")
        elbo = "" if row["elbo"] is None else f"{row['elbo']:,.1f}"
        shown.append([PROGRAMS[row["name"]], str(row["k"]), rounds.spread(row["ms"], 3), *against, elbo])
    return shown


def training_summary(measured: Sequence[dict[str, Any]]) -> Table:
    """The README's: ms per step and point of one and of nine models, for each network."""
    cases = measured[:2]
    wanted = ["bare", "tight", "vmap", "pythae", "jax", "pack"]
    keys = [(row["name"], row["k"]) for row in cases[0]["rows"] if row["name"] in wanted and row["k"] in (1, 9)]
    keys.sort(key=lambda key: wanted.index(key[0]))
    times = [{(row["name"], row["k"]): row["ms"] for row in case["rows"]} for case in cases]
    shown = [["", "K", *(f"{case['case']}, batch {case['batch_size']}" for case in cases)]]
    return shown + [[PROGRAMS[name], str(k), *(rounds.median(of[name, k]) for of in times)] for name, k in keys]


def main_job(measured: dict[str, Any]) -> Table:
    """The whole job of one network: each program."""
    shown = [["", "seconds", "of `launch.py -m`", *(f"{split} ELBO" for split in SPLITS)]]
    (sweep,) = (job["seconds"] for job in measured["jobs"] if job["name"] == "sweep")
    for job in measured["jobs"]:
        ratio = rounds.spread(rounds.ratios(job["seconds"], sweep))
        elbos = (f"{job['elbo'][split]:.1f}" for split in SPLITS)
        shown.append([JOBS[job["name"]], rounds.spread(job["seconds"], 3), ratio, *elbos])
    return shown


def growth(measured: Sequence[dict[str, Any]]) -> Table:
    """How times grow: one row for each quantity, with the exponent of the power law through its medians."""
    shown = [["", "sizes", "time", "slope"]]
    for row in measured:
        medians = [rounds.median(values) for values in row["times"]]
        slopes = [rounds.slope(row["sizes"], values) for values in zip(*row["times"], strict=True)]
        sizes = ", ".join(f"{size:,}" for size in row["sizes"])
        shown.append([row["what"], sizes, f"{', '.join(medians)} {row['unit']}", rounds.spread(slopes)])
    return shown


def services(measured: Sequence[dict[str, Any]]) -> Table:
    """Launching, evaluation, data and tracker: a value of each, in its unit."""
    return [["", "value", "unit"], *([row["what"], rounds.spread(row["values"], 3), row["unit"]] for row in measured)]


def markdown(table: Table, num_left: int = 1) -> str:
    """The table in Markdown; its first columns are aligned to the left."""
    head, *rows = table
    rule = ["---" if i < num_left else "---:" for i in range(len(head))]
    return "".join("| " + " | ".join(row) + " |\n" for row in [head, rule, *rows])


def machine(results: dict[str, Any]) -> str:
    """A paragraph: the machine and the versions, and how busy the machine was."""
    items = [item for part in PARTS for item in results.get(part, [])]
    machines = "; ".join(sorted({item["machine"] for item in items}))
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    loads = [item["load"] for item in items]
    load = f"from {min(loads):.1f} to {max(loads):.1f}, the measured programs included"
    return f"Measured on {machines}, with {versions}. The machine's load average was {load}.\n"


def _heading(measured: dict[str, Any]) -> str:
    """The network, and where and on how busy a machine it was measured."""
    place = f"{measured['machine']}, load {measured['load']:.1f}"
    return f"{measured['case']}, batch {measured['batch_size']} ({place})"


def rendered(results: dict[str, Any]) -> dict[str, str]:
    """The text of each place that quotes these results, by its name."""
    texts = {"machine": machine(results), "training-summary": markdown(training_summary(results["training"]))}
    for kind, make in (("training", training), ("main_job", main_job)):
        parts = (f"{_heading(of)}:\n\n{markdown(make(of))}" for of in results[kind])
        texts[kind.replace("_", "-")] = "\n".join(parts)
    for kind, make, num_left in (("growth", growth, 2), ("services", services, 1)):
        if kind in results:
            texts[kind] = markdown(make(results[kind]), num_left)
    return texts
