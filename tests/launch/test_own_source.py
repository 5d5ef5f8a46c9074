"""A run with parts of the user's own belongs to their source: edited, it is another run, and the old one says so."""

import sys
from pathlib import Path

import pytest

import vae_sweeps
from tests.conftest import ROOT, launch_here
from vae_sweeps.runs import own_source
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.run_folder import RunFolder

POINT = (
    *("arch=custom", "arch.encoder._target_=edited_nets.Encoder", "arch.decoder._target_=edited_nets.Decoder"),
    *("steps=1", "latent=2", "evaluation=none", "tracker=none"),
)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the test's own parts, in a file that can be edited."""
    path = tmp_path / "code" / "edited_nets.py"
    path.parent.mkdir()
    path.write_text((ROOT / "tests" / "helpers" / "own_parts.py").read_text())
    monkeypatch.syspath_prepend(path.parent)
    monkeypatch.chdir(tmp_path)
    return path


def run_again(output_dir: Path) -> list[RunFolder]:
    """What a new process would do: import the module anew."""
    sys.modules.pop("edited_nets", None)
    assert launch_here(*POINT, f"output_dir={output_dir}") == 0
    return all_runs(output_dir)


@pytest.mark.slow
def test_an_edited_network_is_a_new_run_and_the_old_one_names_the_file(module: Path, tmp_path: Path, capsys) -> None:
    output_dir = tmp_path / "out"
    (first,) = run_again(output_dir)
    assert run_again(output_dir) == [first]
    assert "1 of 1 point already done" in capsys.readouterr().out

    before = module.read_text()
    module.write_text(f"{before}\n# edited\n")
    (second,) = set(run_again(output_dir)) - {first}
    assert vae_sweeps.load(second.path, trust=True).latent == 2
    with pytest.raises(ValueError, match=r"has changed since the launch \(edited_nets.py\)"):
        vae_sweeps.load(first.path, trust=True)
    assert own_source.kept(first) == {"edited_nets.py": before.encode()}

    module.write_text(before)
    assert vae_sweeps.load(first.path, trust=True).latent == 2
    module.unlink()
    with pytest.raises(ValueError, match=r"edited_nets.*(no module|No such file)|edited_nets.py: cannot be read"):
        vae_sweeps.load(first.path, trust=True)
