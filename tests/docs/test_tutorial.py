"""The tutorial's commands and its figure run as they stand, on smaller training."""

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import ROOT, ended_command, launch_here
from tests.docs.test_extending import blocks

PAGE = ROOT / "docs" / "tutorial.md"
SMALL = ["arch.hidden=[8]", "evaluation.iwae_samples=2", "evaluation.fid=false", "evaluation.latent_space=false"]


@pytest.mark.slow
def test_the_tutorial_ends_in_its_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    said = []
    for kind, text in blocks(PAGE):
        if kind == "python":
            exec(compile(text, str(PAGE), "exec"), {})
            continue
        for line in text.splitlines():
            program, command, *arguments = shlex.split(line)
            assert program == "vae-sweeps"
            if command == "launch":
                epochs = [re.sub(r"^epochs=(\d+)$", lambda found: f"steps={int(found[1]) // 10}", a) for a in arguments]
                assert launch_here(*epochs, *SMALL) == 0, capsys.readouterr().err
                said.append(capsys.readouterr().out)
            else:
                ended = ended_command(capsys, command, *arguments)
                assert ended.code == 0, (line, ended)
                said.append(ended.out)
    dry, _, _, _, comparison, more, best, archived = said
    assert "30 points to train" in dry
    assert "steps" in comparison
    assert "test/active_units" in comparison
    assert "30 of 36 points already done" in more
    assert "python launch.py" in best
    assert "latents.tar.xz" in archived
    for name in ("latents.png", "latents.pdf", "latents.tar.xz"):
        assert (tmp_path / name).stat().st_size > 1000
