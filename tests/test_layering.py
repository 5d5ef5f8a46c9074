"""Imports run one way: from what users start down to the schema."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "vae_sweeps"

# From low to high; a module imports only from its own layer or lower ones.
LAYERS = [
    {"schema", "config", "noise", "claims", "code", "parallel"},
    {"points", "store", "cache", "slurm"},
    {"layers", "convolutions", "networks", "likelihoods", "data"},
    {"vae", "checkpoint"},
    {"objective"},
    {"metrics"},
    {"training", "rows", "pictures", "figures", "latent_map", "plot_style"},
    {"tracker"},
    {"building", "loading", "progress", "machine", "table", "cells", "composing"},
    {"seeds"},
    {"columns"},
    {"printing"},
    {"reference", "subject", "evaluation", "recording"},
    {"worker", "summary", "states", "planning", "report", "marks", "plots", "analysis"},
    {"jobs"},
    {"submission"},
    {"placing"},
    {"errors", "launching", "evaluating", "commands", "cli"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MAY_KNOW = {
    "hydra": {"building", "composing", "errors", "launching"},
    "submitit": {"submission", "jobs"},
    "wandb": {"tracker"},
}


def imports() -> list[tuple[str, str]]:
    """(module of the package, what it imports), the latter without the package's own prefix."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "vae_sweeps":
                found += [(module, f"vae_sweeps.{alias.name}") for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                found.append((module, node.module or ""))
            elif isinstance(node, ast.Import):
                found += [(module, alias.name) for alias in node.names]
    return found


def test_every_module_has_a_layer() -> None:
    modules = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if not path.name.startswith("__")}
    assert modules == set(RANK)


def test_imports_run_one_way() -> None:
    for module, imported in imports():
        if module != "__init__" and imported.startswith("vae_sweeps."):
            target = imported.split(".")[1]
            assert RANK[target] <= RANK[module], f"{module} imports {target}"


def test_networks_and_likelihoods_do_not_know_each_other() -> None:
    pairs = {(module, imported.split(".")[1]) for module, imported in imports() if imported.startswith("vae_sweeps.")}
    assert not pairs & {("networks", "likelihoods"), ("likelihoods", "networks")}


def test_only_the_modules_meant_for_it_know_hydra_submitit_and_wandb() -> None:
    for module, imported in imports():
        library = imported.split(".")[0]
        if library in MAY_KNOW:
            assert module in MAY_KNOW[library], f"{module} imports {imported}"
