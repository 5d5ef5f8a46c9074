"""The commands and the snippets of docs/extending are run as they stand, in an empty folder."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, ended_command, launch_here

PAGES = sorted((ROOT / "docs" / "extending").glob("*.md"))


def blocks(page: Path) -> list[tuple[str, str]]:
    """The kind, bash or python, and the text of each block of code, in order."""
    return re.findall(r"^```(bash|python)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_as_it_stands(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    try:
        found = blocks(page)
        assert any(kind == "bash" for kind, _ in found)
        for kind, text in found:
            if kind == "python" and (name := re.match(r"# (\S+\.py)\n", text)):
                (tmp_path / name[1]).write_text(text)
            elif kind == "python":
                exec(compile(text, str(page), "exec"), {"__name__": "__main__"})
            else:
                for line in filter(None, text.replace("\\\n", " ").splitlines()):
                    run(line, capsys)
    finally:
        for name in set(sys.modules) - before:
            if (path := getattr(sys.modules[name], "__file__", None)) and Path(path).is_relative_to(tmp_path):
                del sys.modules[name]


def run(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, *arguments = shlex.split(command)
    assert program == "vae-sweeps", command
    code = launch_here(*arguments[1:]) if arguments[0] == "launch" else ended_command(capsys, *arguments).code
    assert code == 0, (command, capsys.readouterr().err)
