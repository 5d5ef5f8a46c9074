"""`vae-sweeps export`, and models that move and are pickled."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vae_sweeps
from tests.conftest import ended_command, make_options, make_point
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.training.pack import new_start

POINT, SHAPE = make_point("latent=3", "arch.hidden=[8]"), (1, 28, 28)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.under(tmp_path, "mnist5k-mlp-0123456789ab")
    folder.create(POINT, make_options(), [])
    checkpoint.save(folder, new_start(POINT, SHAPE))
    return folder


@pytest.mark.slow
def test_the_cards_snippet_works(run: RunFolder, tmp_path: Path, capsys) -> None:
    ended = ended_command(capsys, "export", run.path, tmp_path / "to")
    assert ended.code == 0, ended.err
    assert {path.name for path in (tmp_path / "to").iterdir()} == {"README.md", "model.py", "weights.pt"}
    snippet = (tmp_path / "to" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = f"import sys\nsys.path[:0] = ['.']\n{snippet}\nassert images.shape == (2, 1, 28, 28), images.shape"
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path / "to", check=True)


def test_what_cannot_be_exported_is_one_line(run: RunFolder, tmp_path: Path, capsys) -> None:
    full, new = tmp_path / "full", tmp_path / "new"
    full.mkdir()
    (full / "file").touch()
    empty = RunFolder.under(tmp_path, "mnist5k-mlp-ba9876543210")
    empty.create(POINT, make_options(), [])
    for arguments, reason in (
        ((run.path, full), "must be a new or empty folder"),
        ((run.path, new, "--format", "pickle"), "--format=pickle: must be one of torch, safetensors, onnx"),
        ((empty.path, new), "no intact checkpoint"),
        ((tmp_path / "none", new), "no run folder"),
    ):
        ended = ended_command(capsys, "export", *arguments)
        assert ended.code == 2
        assert ended.err.count("\n") == 1
        assert reason in ended.err
    assert not new.exists()


def test_a_model_moves_and_is_pickled(run: RunFolder, tmp_path: Path) -> None:
    model = vae_sweeps.load(run.path, device="cpu")
    z = torch.randn(4, 3)
    images = model.decode(z)
    moved = model.to("meta")
    assert moved.decode(z).device.type == "meta"
    assert model.device.type == "cpu"
    same = pickle.loads(pickle.dumps(model))
    assert torch.equal(same.decode(z), images)
    assert same.point == model.point
    (tmp_path / "model.pickle").write_bytes(pickle.dumps((model, z, images)))
    code = "import pickle, sys; m, z, x = pickle.load(open(sys.argv[1], 'rb')); assert m.decode(z).equal(x)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "model.pickle")], check=True)
