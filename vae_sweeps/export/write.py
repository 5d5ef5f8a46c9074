"""Write a model into a folder for programs without this package, and check what was written."""

import importlib.util
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vae_sweeps.config import source
from vae_sweeps.config.own_names import OWN
from vae_sweeps.config.trust import allowing, targets_in, targets_of_points
from vae_sweeps.evaluation.model import Model, load_run
from vae_sweeps.export import card
from vae_sweeps.export.modules import Modules, modules_of
from vae_sweeps.runs.finding import find_run

# The packages that each format needs beside torch.
FORMATS: Mapping[str, tuple[str, ...]] = {
    "torch": (),
    "safetensors": ("safetensors",),
    "onnx": ("onnx", "onnxruntime"),
}
_TOLERANCE = 1e-5
_NUM_CHECKED = 33


def export(run: str, to: Path, form: str, output_dir: Path, *, is_trusted: bool = False) -> float:
    """Write the encoder, the decoder and a card of a run's model into the folder `to`.

    Returns the largest difference between outputs of what was written and of the model, relative to outputs above 1.
    Raises ValueError for a mistake, or if a difference is above 1e-5; then nothing is written.
    """
    if form not in FORMATS:
        raise ValueError(f"--format={form}: must be one of {', '.join(FORMATS)}")
    if missing := [name for name in FORMATS[form] if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f"--format={form}: needs {', '.join(missing)}; install them with pip install vae-sweeps[export]"
        )
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ValueError(f"{to}: must be a new or empty folder; choose another one")
    folder = find_run(run, output_dir)
    with allowing(targets_of_points([folder.read_point()]) if is_trusted else ()):
        model = load_run(folder)
        modules = modules_of(
            model,
            f"The model of the run {re.sub(r'[^A-Za-z0-9._-]', '_', folder.name)}.",
            "safetensors" if form == "safetensors" else "torch",
        )
        own = targets_in([model.point.arch, model.point.likelihood]) - OWN.keys()
        # As they are now, which `load_run` has compared with those of the launch; the run's zip file is not verified.
        sources = {name: content for name, content in source.files_of(own).items() if content}
        with tempfile.TemporaryDirectory() as staged:
            plain, result = Path(staged) / "plain", Path(staged) / "result"
            _write_modules(modules, sources, plain)
            encoder, decoder = _loaded(plain)
            x, z = _inputs(model)
            difference = _difference(model, x, z, encoder(x), decoder(z))
            if form == "onnx":
                result.mkdir()
                difference = max(difference, _write_onnx(model, encoder, decoder, result))
            else:
                shutil.move(plain, result)
            (result / "README.md").write_text(card.text(folder, model, form, difference), encoding="utf-8")
            to.mkdir(parents=True, exist_ok=True)
            shutil.copytree(result, to, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return difference


def _write_modules(modules: Modules, sources: Mapping[str, bytes], folder: Path) -> None:
    folder.mkdir()
    (folder / "model.py").write_text(modules.text, encoding="utf-8")
    if "weights.safetensors" in modules.text:
        from safetensors.torch import save_file  # type: ignore[import-not-found]

        save_file(modules.weights, folder / "weights.safetensors")
    else:
        torch.save(modules.weights, folder / "weights.pt")
    for name, content in sources.items():
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _loaded(folder: Path) -> tuple[nn.Module, nn.Module]:
    """The modules that the folder's `load` returns."""
    names: dict[str, Any] = {"__name__": "exported_model", "__file__": str(folder / "model.py")}
    before = list(sys.path)
    try:
        exec(compile((folder / "model.py").read_text(encoding="utf-8"), "model.py", "exec"), names)
    finally:
        sys.path[:] = before
    return names["load"](folder)


def _inputs(model: Model) -> tuple[Tensor, Tensor]:
    """Random images on the model's scale and latents, to check outputs with."""
    draw = torch.Generator().manual_seed(0)
    low, high = model.pixel_range
    x = torch.rand(_NUM_CHECKED, *model.image_shape, generator=draw) * (high - low) + low
    return x.to(model.dtype), torch.randn(_NUM_CHECKED, model.latent, generator=draw).to(model.dtype)


def _difference(model: Model, x: Tensor, z: Tensor, posterior: Any, images: Any) -> float:
    """The largest difference from the model's outputs. Raises ValueError if it is above the tolerance."""
    largest = 0.0
    for own, other in zip((*model.encode(x), model.decode(z)), (*posterior, images), strict=True):
        error = (own - other).abs() / own.abs().clamp(min=1)
        largest = max(largest, error.max().item()) if error.isfinite().all() else float("inf")
    if not largest <= _TOLERANCE:
        raise ValueError(f"the exported model's outputs differ from the run's by {largest:.2g}; nothing is written")
    return largest


def _write_onnx(model: Model, encoder: nn.Module, decoder: nn.Module, folder: Path) -> float:
    """Write encoder.onnx and decoder.onnx in float32, and compare what onnxruntime computes."""
    x, z = (inputs.float() for inputs in _inputs(model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further packages is called the legacy one
        parts = (("encoder", encoder, x, ["images"], ["mu", "sigma"]), ("decoder", decoder, z, ["z"], ["images"]))
        for name, module, example, inputs, outputs in parts:
            torch.onnx.export(
                module.float(),
                (example,),
                str(folder / f"{name}.onnx"),
                input_names=inputs,
                output_names=outputs,
                dynamic_axes={axis: {0: "batch"} for axis in (*inputs, *outputs)},
                dynamo=False,
            )
    posterior = _run_onnx(folder / "encoder.onnx", {"images": x[:-2]})
    (images,) = _run_onnx(folder / "decoder.onnx", {"z": z[:-2]})  # another batch size than that of the export
    return _difference(model, x[:-2], z[:-2], posterior, images)


def _run_onnx(path: Path, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    import onnxruntime  # type: ignore[import-not-found]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    return [torch.from_numpy(array) for array in found]
