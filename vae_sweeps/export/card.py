"""The card of an exported model: README.md, with its config, data, numbers and how to use it."""

from typing import Any

import torch

from vae_sweeps.config.identity import short_name
from vae_sweeps.evaluation.model import Model
from vae_sweeps.runs import catalogue
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import yaml_files

_PYTHON = """\
import torch
from model import load

encoder, decoder = load()
with torch.no_grad():
    mu, sigma = encoder(torch.rand(2, {shape}{dtype}))
    images = decoder(mu)
"""
_ONNX = """\
import numpy as np
import onnxruntime

encoder, decoder = onnxruntime.InferenceSession("encoder.onnx"), onnxruntime.InferenceSession("decoder.onnx")
mu, sigma = encoder.run(None, {{"images": np.random.rand(2, {shape}).astype("float32")}})
(images,) = decoder.run(None, {{"z": mu}})
"""


def text(run: RunFolder, model: Model, form: str, difference: float) -> str:
    """The card. Images that the encoder reads are on the scale of `data.pixel_range`, and so are the decoder's."""
    result = run.read_result() or {}
    shape = ", ".join(map(str, model.image_shape))
    low, high = model.pixel_range
    dtype = ", dtype=torch.float64" if model.dtype == torch.float64 else ""
    snippet = (_ONNX if form == "onnx" else _PYTHON).format(shape=shape, dtype=dtype)
    lines = [
        f"# {run.name}",
        "",
        "The encoder and the decoder of a variational autoencoder that vae-sweeps has trained.",
        f"Nothing of vae-sweeps is needed to use them. {_in_words(form)}",
        f"Their outputs differ from those of the run by at most {difference:.1g}.",
        "",
        f"- encoder: images [B, {shape}], on a scale where black is {low:g} and white {high:g}, to mu and sigma of "
        f"q(z|x), each [B, {model.latent}]",
        f"- decoder: z [B, {model.latent}] to the mean of p(x|z), [B, {shape}], on the same scale",
        "",
        "```python",
        snippet.rstrip(),
        "```",
        "",
        "## Data",
        "",
        f"{short_name(str(model.point.data['_target_']))}, fingerprint {result.get('data_fingerprint', 'unknown')}, "
        f"pixels in [{low:g}, {high:g}].",
        "",
        "## Numbers",
        "",
        *_numbers(result),
        "",
        f"Commit {result.get('git_commit') or 'unknown'}; trained with torch {result.get('torch', 'unknown')}, "
        f"exported with torch {torch.__version__}.",
        "",
        "## Config",
        "",
        "```yaml",
        yaml_files.dump(_without_places(run.read_config())).rstrip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _without_places(config: dict[str, Any]) -> dict[str, Any]:
    """The config without the folder of the data, which says something about this machine only."""
    return {**config, "data": {name: value for name, value in config["data"].items() if name != "root"}}


def _in_words(form: str) -> str:
    if form == "onnx":
        return "The numbers are in single precision."
    return "`model.py` needs torch" + (" and safetensors." if form == "safetensors" else " alone.")


def _numbers(result: dict[str, Any]) -> list[str]:
    metrics = {name: value for name, value in result.get("metrics", {}).items() if isinstance(value, int | float)}
    if not metrics:
        return ["The run has no result yet: it is not done."]
    rows = [f"| {catalogue.with_unit(name)} | {value:.6g} |" for name, value in metrics.items()]
    return ["| metric | value |", "| --- | ---: |", *rows]
