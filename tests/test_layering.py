"""The order of the packages: imports run one way, from what users start down to the ground."""

import ast
from functools import cache
from pathlib import Path

from tests.conftest import ROOT

PACKAGE = ROOT / "vae_sweeps"

# From low to high; a package imports from itself and from lower rows.
ORDER = [
    {"system"},
    {"config"},
    {"data", "likelihoods", "models", "runs"},
    {"evaluation", "testing", "tracker"},
    {"training", "analysis"},
    {"export", "report"},
    {"launch"},
    {"cli"},
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
MAY_IMPORT = {"hydra": {"config", "launch"}, "submitit": {"launch"}, "wandb": {"tracker"}, "tensorboard": {"tracker"}}


@cache
def imports() -> list[tuple[Path, str]]:
    """(file of the package, what it imports); a module that is imported from its package has its full name."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                found += [(path, f"{node.module}.{alias.name}") for alias in node.names]
            elif isinstance(node, ast.Import):
                found += [(path, alias.name) for alias in node.names]
    return found


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def test_the_package_holds_packages_and_at_most_three_files() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(RANK)
    assert sum(path.is_file() for path in PACKAGE.iterdir()) <= 3


def test_imports_run_one_way() -> None:
    for path, imported in imports():
        if path.parent != PACKAGE and imported.startswith("vae_sweeps."):
            own, other = package_of(path), imported.split(".")[1]
            assert other == own or RANK[other] < RANK[own], f"{path.relative_to(ROOT)} imports {imported}"


def test_modules_do_not_import_in_circles() -> None:
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    needs = {name: set[str]() for name in modules}
    names = {path: name for name, path in modules.items()}
    for path, imported in imports():
        target = imported if imported in modules else imported.rpartition(".")[0]
        if target in modules:
            needs[names[path]].add(target)
    while free := {name for name, needed in needs.items() if not needed}:
        needs = {name: needed - free for name, needed in needs.items() if name not in free}
    assert not needs, f"these modules import each other: {sorted(needs)}"


def test_packages_do_nothing_when_they_are_imported() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        docstring, *statements = ast.parse(path.read_text()).body
        assert isinstance(docstring, ast.Expr), f"{path} has no docstring"
        if statements:
            lazy = "import lazy_loader\n__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)"
            assert [ast.dump(s) for s in statements] == [ast.dump(s) for s in ast.parse(lazy).body], path


def test_only_the_packages_meant_for_it_import_hydra_submitit_and_trackers() -> None:
    for path, imported in imports():
        library = imported.split(".")[0]
        if library in MAY_IMPORT:
            assert package_of(path) in MAY_IMPORT[library], f"{path.relative_to(ROOT)} imports {imported}"


def test_evaluation_draws_nothing() -> None:
    drawing = {"matplotlib", "PIL", "plotly"}
    found = {imported for path, imported in imports() if package_of(path) == "evaluation"}
    assert not {imported for imported in found if imported.split(".")[0] in drawing}


def test_of_the_runs_only_checkpoints_import_torch() -> None:
    found = {path.name for path, imported in imports() if imported.startswith("torch") and package_of(path) == "runs"}
    assert found == {"checkpoint.py"}
