"""What an export writes computes what the run computes, in a process that cannot import vae_sweeps."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import make_point
from vae_sweeps.config.trust import allowing, targets_of_points
from vae_sweeps.evaluation.model import Model, from_state
from vae_sweeps.export import write
from vae_sweeps.export.modules import modules_of
from vae_sweeps.models.build import build_vae

# An odd kernel, another number of channels and other shapes of the first image than those of the default.
CONV = ("arch=conv", "arch.channels=[4,6]", "latent=3")
OWN = (
    *("arch=custom", "arch.encoder._target_=tests.helpers.own_parts.Encoder"),
    *("arch.decoder._target_=tests.helpers.own_parts.Decoder", "latent=3"),
)
POINTS = {
    **{f"mlp-{name}": (f"arch.activation={name}",) for name in ("relu", "leaky_relu", "elu", "silu", "gelu", "tanh")},
    **{f"mlp-{kind}": (f"posterior={kind}", "latent=7") for kind in ("softplus", "square", "sigma")},
    "mlp-linear": ("arch.hidden=[]", "likelihood=gaussian"),
    "mlp-tanh-output": ("arch.output=tanh", "likelihood=gaussian", "data.pixel_range=[-1,1]"),
    "mlp-sigmoid-output": ("arch.output=sigmoid", "likelihood=gaussian"),
    "mlp-continuous": ("likelihood=continuous_bernoulli",),
    "mlp-laplace": ("likelihood=laplace",),
    "mlp-levels": ("likelihood=discretized_logistic", "likelihood.scale=learned"),
    "mlp-fp64": ("precision=fp64",),
    "conv-batch-norm": (*CONV, "arch.batch_norm=true", "arch.kernel=3"),
    "conv-even-kernel": (*CONV, "arch.batch_norm=false", "arch.kernel=4"),
    "conv-pool-dense": (*CONV, "arch.downsampling=max_pool", "arch.kernel=3", "arch.dense=[9]"),
    "conv-from-point": (*CONV, "arch.start=transposed", "arch.batch_norm=true"),
    "conv-last": (*CONV, "arch.start=linear", "arch.last_conv=3", "arch.output=sigmoid", "likelihood=gaussian"),
    "custom": OWN,
}
READ = """
import importlib.util, sys
from pathlib import Path

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "vae_sweeps":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import torch
for folder in map(Path, sys.argv[1:]):
    spec = importlib.util.spec_from_file_location(folder.name, folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    encoder, decoder = module.load()
    x, z = torch.load(folder / "inputs.pt", weights_only=True)
    with torch.no_grad():
        torch.save([*encoder(x), decoder(z)], folder / "outputs.pt")
assert "vae_sweeps" not in sys.modules
"""


def drawn(*overrides: str, shape: tuple[int, int, int] = (2, 8, 12)) -> Model:
    """A model whose weights and buffers are all random, so that none of them can be forgotten unnoticed."""
    point = make_point(*overrides)
    with allowing(targets_of_points([point])):
        state = build_vae([point], shape).state_dict()
        draw = torch.Generator().manual_seed(1)
        for name, tensor in state.items():
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, generator=draw, dtype=tensor.dtype) * 0.3
                state[name] = values.abs() + 0.5 if "running_var" in name else values
        return from_state(point, state, shape)


@pytest.mark.slow
def test_outputs_are_equal_in_a_process_without_the_package(tmp_path: Path) -> None:
    models = {name: drawn(*overrides) for name, overrides in POINTS.items()}
    inputs = {name: write._inputs(model) for name, model in models.items()}
    for name, model in models.items():
        source = {"tests/helpers/own_parts.py": (Path(__file__).parents[1] / "helpers" / "own_parts.py").read_bytes()}
        with allowing(model.allowed | targets_of_points([model.point])):
            write._write_modules(modules_of(model, name, "torch"), source if name == "custom" else {}, tmp_path / name)
        torch.save(inputs[name], tmp_path / name / "inputs.pt")
    folders = [str(tmp_path / name) for name in models]
    ended = subprocess.run([sys.executable, "-I", "-c", READ, *folders], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    for name, model in models.items():
        outputs = torch.load(tmp_path / name / "outputs.pt", weights_only=True)
        x, z = inputs[name]
        for found, expected in zip(outputs, (*model.encode(x), model.decode(z)), strict=True):
            torch.testing.assert_close(
                found, expected, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.parametrize(
    "name", ["mlp-gelu", "mlp-levels", "conv-batch-norm", "conv-from-point", "conv-pool-dense", "custom"]
)
def test_onnxruntime_computes_the_same(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = drawn(*POINTS[name])
    with allowing(targets_of_points([model.point])):
        write._write_modules(modules_of(model, name, "torch"), {}, tmp_path / "plain")
        encoder, decoder = write._loaded(tmp_path / "plain")
    assert write._write_onnx(model, encoder, decoder, tmp_path) < 1e-5
