"""The source of a user's own parts: which files count, found without running them, and what a change of one does."""

import sys
from pathlib import Path

import pytest

from vae_sweeps.config import source


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which Python imports, with modules that must not be run."""
    files = {
        "bomb_nets.py": "import json, torch\nfrom bomb_parts import blocks\nraise SystemExit\nclass Net: ...\n",
        "bomb_parts/__init__.py": "raise SystemExit\n",
        "bomb_parts/blocks.py": "from . import deep\nfrom .deep import layer\nimport nothing_of_the_kind\n",
        "bomb_parts/deep.py": "def later():\n    from bomb_parts import late\n",
        "bomb_parts/late.py": "",
        "bomb_parts/unused.py": "",
        "bomb_unused.py": "",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


NEEDED = {"bomb_nets.py", "bomb_parts/__init__.py", "bomb_parts/blocks.py", "bomb_parts/deep.py", "bomb_parts/late.py"}


def test_the_files_are_those_that_the_target_imports_and_none_is_run(project: Path) -> None:
    assert set(source.files_of(["bomb_nets.Net"])) == NEEDED
    assert not any(name.startswith("bomb_") for name in sys.modules)


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_an_edit_of_a_needed_file_is_another_digest(project: Path, name: str) -> None:
    before, files = source.digest(["bomb_nets.Net"]), source.files_of(["bomb_nets.Net"])
    (project / name).write_text((project / name).read_text() + "# edited\n")
    assert source.digest(["bomb_nets.Net"]) != before
    assert source.differences(files, source.files_of(["bomb_nets.Net"])) == [name]


def test_other_files_and_line_ends_do_not_matter(project: Path) -> None:
    before = source.digest(["bomb_nets.Net"])
    (project / "bomb_unused.py").write_text("edited = 1\n")
    (project / "bomb_nets.py").write_bytes((project / "bomb_nets.py").read_bytes().replace(b"\n", b"\r\n"))
    assert source.digest(["bomb_nets.Net"]) == before


def test_the_folder_does_not_matter(project: Path, tmp_path_factory, monkeypatch: pytest.MonkeyPatch) -> None:
    before = source.digest(["bomb_nets.Net"])
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in NEEDED:
        (elsewhere / name).parent.mkdir(exist_ok=True)
        (project / name).rename(elsewhere / name)
    with pytest.raises(ValueError, match=r"^_target_=bomb_nets.Net: cannot be imported, there is no module bomb_nets"):
        source.digest(["bomb_nets.Net"])
    monkeypatch.syspath_prepend(elsewhere)
    assert source.digest(["bomb_nets.Net"]) == before


def test_what_is_python_s_torch_s_or_ours_has_no_source() -> None:
    assert source.digest(["torch.nn.Flatten", "json.loads", "vae_sweeps.models.mlp"]) == ""
    assert source.digest([]) == ""


def test_a_library_counts_by_its_version() -> None:
    (name,) = source.files_of(["torchmetrics.Metric"])
    assert name.startswith("torchmetrics==")


def test_a_file_that_is_not_python_is_named(project: Path) -> None:
    (project / "bomb_nets.py").write_text("class Net(\n")
    with pytest.raises(ValueError, match=r"bomb_nets.py: is not Python"):
        source.digest(["bomb_nets.Net"])
