"""Inception's features through torch-fidelity and torchmetrics, with a file of random weights in the right format.

In processes of their own: torch-fidelity lies in a folder that only they see (`make test` puts it there).
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vae_sweeps
from tests.conftest import ROOT, launch
from tests.helpers.evaluated_columns import SAMPLES

_FIDELITY = ROOT / ".venv" / "inception"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _FIDELITY.exists(), reason="torch-fidelity is not in .venv/inception; `make test` gets it"),
]

# The module's constructor wants weights before it has any: what it has built by then is what a file must hold.
MAKE_WEIGHTS = """
import sys, torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
torch.manual_seed(0)
torch.save({}, sys.argv[1])
network = FeatureExtractorInceptionV3.__new__(FeatureExtractorInceptionV3)
try:
    network.__init__("inception-v3-compat", ["2048"], sys.argv[1])
except RuntimeError as error:
    assert "Missing key" in str(error)
torch.save(network.state_dict(), sys.argv[1])
"""

COMPARE = """
import sys, torch
from torchmetrics.image.fid import FrechetInceptionDistance
from vae_sweeps.evaluation.features import inception
from vae_sweeps.evaluation.metrics.fidelity import frechet_distance
generator = torch.Generator().manual_seed(0)
real, fake = (torch.randint(0, high, (70, 1, 32, 32), generator=generator, dtype=torch.uint8) for high in (256, 200))
features = inception(sys.argv[1], 64)
module = features.load().module
ours = frechet_distance(*(module(x / 255).double() for x in (real, fake)))
theirs = FrechetInceptionDistance(64, feature_extractor_weights_path=sys.argv[1])
theirs.update(real.expand(-1, 3, -1, -1), real=True)
theirs.update(fake.expand(-1, 3, -1, -1), real=False)
assert abs(ours - theirs.compute().item()) < 1e-3 * ours, (ours, theirs.compute())
assert module(real[:2] / 255).shape == (2, 64)
assert inception(sys.argv[1]).load().module(real[:2] / 255).shape == (2, 2048)
assert features.name == "inception64" and inception(sys.argv[1]).name == "inception"
"""


@pytest.fixture(scope="module", autouse=True)
def _with_torch_fidelity() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(_FIDELITY), str(ROOT / "tests" / "stand_ins")]))
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    subprocess.run([sys.executable, "-c", MAKE_WEIGHTS, path], check=True)
    return path


def test_fid_of_inception_is_torchmetrics_own(weights) -> None:
    subprocess.run([sys.executable, "-c", COMPARE, weights], cwd=ROOT, check=True)


def test_a_point_is_scored_by_inception(weights, tmp_path) -> None:
    chosen = ["evaluation/features=inception", f"evaluation.features.weights={weights}", "evaluation.num_images=70"]
    small = ["steps=5", "latent=2", f"output_dir={tmp_path}"]
    wide = launch(*small, *chosen)
    assert wide.returncode == 2
    assert "evaluation.num_images=70: must be more than 2048, the width of the features inception" in wide.stderr
    narrow = launch(*small, *chosen, "evaluation.features.num_features=64")
    assert narrow.returncode == 0, narrow.stderr
    found = vae_sweeps.results(tmp_path)
    assert found[[f"fid/inception64/{s}" for s in SAMPLES]].notna().to_numpy().all()


@pytest.mark.parametrize("given", ["null", "/nowhere/weights.pth"])
def test_missing_weights_name_the_command_that_gets_them(tmp_path, monkeypatch, given: str) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    refused = launch("evaluation/features=inception", f"evaluation.features.weights={given}", f"output_dir={tmp_path}")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: evaluation.features.weights={given}: no weights at ")
    assert "`vae-sweeps prefetch evaluation/features=inception` downloads them" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_file_of_other_weights_is_the_reason_why_columns_are_missing(tmp_path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    chosen = ["evaluation/features=inception", f"evaluation.features.weights={tmp_path / 'weights.pth'}"]
    chosen += ["evaluation.features.num_features=64", "steps=5", f"output_dir={tmp_path / 'out'}"]
    ended = launch(*chosen)
    assert f"fid: ValueError: {tmp_path / 'weights.pth'}: not the weights of Inception v3" in ended.stdout
    found = vae_sweeps.results(tmp_path / "out")
    assert found["test/iwae"].notna().to_numpy().all()
