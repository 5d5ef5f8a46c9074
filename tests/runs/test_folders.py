"""Run folders and sweep folders: file names are defined in one place, and JSON lines survive a kill."""

import ast
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import ROOT, make_options, make_point
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder, all_sweeps
from vae_sweeps.system import files

PACKAGE = ROOT / "vae_sweeps"
OWNERS = {PACKAGE / "runs" / "run_folder.py", PACKAGE / "runs" / "sweep_folder.py"}


def names_of(folder: RunFolder | SweepFolder) -> set[str]:
    """The names of all files and folders that `folder` defines."""
    properties = [name for name, value in vars(type(folder)).items() if isinstance(value, property)]
    paths = [path for name in properties if isinstance(path := getattr(folder, name), Path)]
    return {path.name for path in paths if folder.path in path.parents}


NAMES = names_of(RunFolder(Path("out/runs/run"))) | names_of(SweepFolder(Path("out/sweeps/grid")))
FILES = {name for name in NAMES if "." in name}


def expressions(path: Path) -> Iterator[ast.AST]:
    """All nodes of a module except its docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    return (node for node in ast.walk(tree) if id(node) not in docstrings)


def spelled(node: ast.AST) -> str | None:
    """The name that `node` spells out: a file at the end of a string, or a part of a path; None if there is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        name = node.value.rsplit("/", 1)[-1]
        return name if name in FILES else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
        return node.right.value if node.right.value in NAMES | {"runs", "sweeps"} else None
    if isinstance(node, ast.Attribute) and node.attr == "parent" and isinstance(node.value, ast.Attribute):
        return ".parent.parent" if node.value.attr == "parent" else None
    return None


def test_the_search_covers_the_important_names() -> None:
    assert {"checkpoint.pt", "metrics.jsonl", "result.json", "config.yaml", "launch.yaml", "failure.txt"} <= FILES
    assert {"jobs.jsonl", "launches.jsonl", "report.html"} <= FILES
    assert {"pictures", "jobs", "code", "points"} <= NAMES


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ('run / "checkpoint.pt"', "checkpoint.pt"),
        ('list(runs.glob("*/result.json"))', "result.json"),
        ('f"{sweep}/jobs.jsonl"', "jobs.jsonl"),
        ('run.path / "pictures"', "pictures"),
        ('Path(output_dir) / "runs" / name', "runs"),
        ("run.path.parent.parent", ".parent.parent"),
        ('"""result.json"""\nx = "no run folder (it has no config.yaml)"  # result.json', None),
    ],
)
def test_the_search_finds_names_in_code_and_not_in_prose(code: str, name: str | None, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(code)
    assert {spelled(node) for node in expressions(tmp_path / "module.py")} - {None} == ({name} if name else set())


def test_only_the_folders_own_modules_spell_the_names_of_their_files() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)} spells {name}"
        for path in sorted(set(PACKAGE.rglob("*.py")) - OWNERS)
        for node in expressions(path)
        if (name := spelled(node)) is not None
    ]
    assert found == []


def test_a_run_and_a_sweep_know_the_output_folder_that_holds_them(tmp_path: Path) -> None:
    sweep = SweepFolder.under(tmp_path, "grid")
    sweep.add(["a-mlp-0123", "b-mlp-4567"], ["beta"])
    assert sweep.output_dir == sweep.run("a-mlp-0123").output_dir == tmp_path
    assert [(run.name, run.id) for run in sweep.runs()] == [("a-mlp-0123", "0123"), ("b-mlp-4567", "4567")]
    assert sweep.runs() == [RunFolder.under(tmp_path, name) for name in ("a-mlp-0123", "b-mlp-4567")]
    assert all_sweeps(tmp_path) == [sweep]
    assert all_runs(tmp_path) == []  # no run has been created yet


def test_a_runs_config_is_written_once_and_holds_only_the_point(tmp_path: Path) -> None:
    run, point = RunFolder.under(tmp_path, "run"), make_point("beta=0.5", "tracker=none", "device=cpu")
    options = make_options("beta=0.5", "tracker=none", "device=cpu")
    run.create(point, options, ["beta=0.5"])
    assert all_runs(tmp_path) == [run]
    assert (run.read_point(), run.read_launch_options()) == (point, options)
    assert not {"evaluation", "tracker", "device", "output_dir"} & set(vars(run.read_point()))
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    run.create(make_point("beta=2"), make_options("device=auto"), ["beta=2"])
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


@pytest.fixture
def torn(tmp_path: Path) -> SweepFolder:
    """A sweep whose second submission was cut short by a kill, in the middle of its line."""
    sweep = SweepFolder.under(tmp_path, "grid")
    sweep.add(["a", "b"], ["seed"])
    sweep.log_submission({"1_0": ["a"], "1_1": ["b"]}, {"nodes": 1})
    whole = sweep.submissions.read_bytes()
    sweep.log_submission({"2_0": ["a", "b"]}, {"nodes": 1})
    sweep.submissions.write_bytes(sweep.submissions.read_bytes()[: len(whole) + 40])
    return sweep


def test_a_submission_that_a_kill_cut_short_is_left_out(torn: SweepFolder) -> None:
    assert not torn.submissions.read_bytes().endswith(b"\n")
    assert torn.submitted().task_of == {"a": "1_0", "b": "1_1"}
    assert [entry["settings"] for entry in torn.read_submissions()] == [{"nodes": 1}]


def test_the_submission_after_one_that_was_cut_short_is_read(torn: SweepFolder) -> None:
    torn.log_submission({"3_0": ["b"]}, {})
    assert torn.submitted().task_of == {"a": "1_0", "b": "3_0"}
    torn.log_submission({"4_0": ["a"]}, {})
    assert torn.submitted().task_of == {"a": "4_0", "b": "3_0"}
    assert len(torn.submissions.read_bytes().splitlines()) == 4  # the torn line is kept, and no other is damaged


@pytest.mark.parametrize("num_bytes", [0, 1, 40, -1])
def test_rows_cut_anywhere_lose_at_most_the_last_one(num_bytes: int, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    files.append_line(run.rows, {"step": 1, "num_steps": 9, "train/elbo": -100.0})
    whole = run.rows.read_bytes()
    files.append_line(run.rows, {"step": 2, "num_steps": 9, "train/elbo": -99.0})
    end = len(whole) + num_bytes if num_bytes >= 0 else -1
    run.rows.write_bytes(run.rows.read_bytes()[:end])
    kept = [1, 2] if num_bytes == -1 else [1]  # a line without its newline is complete
    assert [row["step"] for row in run.read_rows()] == kept
    files.append_line(run.rows, {"step": 3, "num_steps": 9})
    assert [row["step"] for row in run.read_rows()] == [*kept, 3]


def test_points_that_are_added_at_the_same_time_are_all_there(tmp_path: Path) -> None:
    sweep = SweepFolder.under(tmp_path, "grid")
    names = [[f"run-{i}-{j}" for j in range(5)] for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda some: sweep.add(some, ["beta"]), names))
    assert sorted(run.name for run in sweep.runs()) == sorted(name for some in names for name in some)
    assert sweep.swept() == ["beta"]


def test_a_damaged_list_of_points_is_named_and_the_others_are_read(tmp_path: Path, caplog) -> None:
    sweep = SweepFolder.under(tmp_path, "grid")
    sweep.add(["a"], ["beta"])
    (first,) = sweep.points.iterdir()
    sweep.add(["b"], ["latent"])
    first.write_text(first.read_text().replace('"a"', '"c"'))
    assert [run.name for run in sweep.runs()] == ["b"]
    assert f"{first}: damaged: its content does not match its checksum; its points are missing" in caplog.text
    sweep.add(["a", "b"], ["beta", "latent"])  # what the same launch does
    assert [run.name for run in sweep.runs()] == ["b", "a"]
