"""The text of `model.py`, a module that defines a model's encoder and decoder, and the weights that it loads."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vae_sweeps.config.own_names import OWN
from vae_sweeps.config.targets import located
from vae_sweeps.config.trust import targets_in
from vae_sweeps.evaluation.model import Model
from vae_sweeps.export import means
from vae_sweeps.export.plain import Layer, layers_of, linear
from vae_sweeps.models.own import OWN_PAIR, OwnDecoder, OwnEncoder, OwnLikelihood

_ACTIVATIONS = {"relu": "ReLU", "elu": "ELU", "silu": "SiLU", "gelu": "GELU", "tanh": "Tanh"}
_OUTPUTS = {"tanh": "nn.Tanh()", "sigmoid": "nn.Sigmoid()"}
# sigma as a function of the raw output; see `models.vae.VAE`.
_SIGMA = {"logvar": "(0.5 * raw).exp()", "softplus": "F.softplus(raw)", "square": "raw.square()", "sigma": "raw.abs()"}

_TEXT = '''\
"""{title}

`load()` returns the encoder and the decoder with their trained weights, in evaluation mode. It needs torch{also}.
"""

from pathlib import Path
{imports}

class Encoder(nn.Module):
    """Images [B,C,H,W] with values in {pixel_range} to mu [B,L] and sigma [B,L] of q(z|x)."""

    def __init__(self):
        super().__init__()
        self.features = {features}
        self.mu = {mu}
        self.raw = {raw}

    def forward(self, x):
        features = self.features(x)
        raw = self.raw(features)
        return self.mu(features), {sigma}


class Decoder(nn.Module):
    """z [B,L] to the mean of the likelihood, [B,C,H,W] with C,H,W = {image_shape}."""

    def __init__(self):
        super().__init__()
        self.params = {params}{own_likelihood}

    def forward(self, z):
        params = self.params(z).flatten(1)
        return {mean}.unflatten(1, {image_shape})

{functions}
def load(folder=Path(__file__).parent):
    """The encoder and the decoder with the weights in `folder`, in evaluation mode, on the CPU."""
    weights = {read}
    modules = Encoder(), Decoder()
    for name, module in zip(("encoder", "decoder"), modules):
        own = {{key.removeprefix(name + "."): value for key, value in weights.items() if key.startswith(name + ".")}}
        module.to({dtype}).eval(){keep_buffers}
        module.load_state_dict(own)
    return modules
'''

_KEEP_BUFFERS = """
        for part in module.modules():
            part._non_persistent_buffers_set.clear()  # the weights hold all buffers, also those drawn at random"""


@dataclass(frozen=True)
class Modules:
    """The text of the module, and the weights by name, which begins with `encoder.` or `decoder.`."""

    text: str
    weights: dict[str, Tensor]


def modules_of(model: Model, title: str, form: str) -> Modules:
    """The modules of a model; `form` is torch or safetensors.

    Raises ValueError if they cannot do without vae-sweeps.
    """
    vae, arch, target = model.vae, model.point.arch, str(model.point.likelihood["_target_"])
    heads = vae.heads
    heads_of = [linear(heads.weight[0, :, i], heads.bias[0, 0, i]) for i in (0, 1)]
    weights: dict[str, Tensor] = {}
    encoder, decoder = _networks(model, weights)
    for name, layer in zip(("mu", "raw"), heads_of, strict=True):
        weights |= {f"encoder.{name}.{key}": tensor for key, tensor in layer.tensors.items()}
    own_modules = _imported_by(arch, model.point.likelihood)
    likelihood = ""
    if target in OWN:
        mean = means.of(vae.likelihood, target)
    else:
        if not isinstance(vae.likelihood, OwnLikelihood):
            raise ValueError(f"likelihood._target_={target}: cannot be exported: it computes K models at once")
        keys = {"image_shape": model.image_shape}
        likelihood = f"\n        self.likelihood = {_call(model.point.likelihood, keys)}"
        weights |= _state("decoder.likelihood", vae.likelihood.copies.module)
        mean = means.Mean("self.likelihood.mean(params)")
    imports = ["", "import torch", "import torch.nn.functional as F", "from torch import nn"]
    if form == "safetensors":
        imports.insert(-1, "from safetensors.torch import load_file")
    if own_modules:
        imports = ["import sys", *imports, "", 'sys.path.insert(0, str(Path(__file__).parent / "source"))']
        imports += [f"import {name}  # noqa: E402" for name in own_modules]
    text = _TEXT.format(
        title=title,
        also=" and safetensors" if form == "safetensors" else "",
        imports="\n".join([*imports, ""]),
        pixel_range=list(model.pixel_range),
        features=encoder,
        mu=heads_of[0].code,
        raw=heads_of[1].code,
        sigma=_SIGMA[vae.kind],
        image_shape=model.image_shape,
        params=decoder,
        own_likelihood=likelihood,
        mean=mean.expression,
        functions=f"\n{mean.functions}\n" if mean.functions else "",
        read='load_file(Path(folder) / "weights.safetensors")'
        if form == "safetensors"
        else 'torch.load(Path(folder) / "weights.pt", map_location="cpu", weights_only=True)',
        dtype=model.dtype,
        keep_buffers=_KEEP_BUFFERS if own_modules else "",
    )
    copied = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}
    return Modules(text, copied)


def _networks(model: Model, weights: dict[str, Tensor]) -> tuple[str, str]:
    """The expressions that make the encoder's and the decoder's layers; their tensors are added to `weights`."""
    vae, arch = model.vae, model.point.arch
    if isinstance(vae.encoder, OwnEncoder) and isinstance(vae.decoder, OwnDecoder):
        weights |= _state("encoder.features", vae.encoder.copies.module)
        weights |= _state("decoder.params", vae.decoder.copies.module)
        num_outputs = vae.decoder.num_outputs
        keys = {"image_shape": model.image_shape, "latent": model.latent, "num_outputs": num_outputs}
        if arch["_target_"] == OWN_PAIR:
            return _call(arch["encoder"], keys), _call(arch["decoder"], keys)
        pair = _call(arch, keys)
        return f"{pair}[0]", f"{pair}[1]"
    activation, output = _activation(arch), arch.get("output", "identity")
    last = Layer(_OUTPUTS[output]) if output in _OUTPUTS else None
    found = layers_of(vae.encoder, activation, None), layers_of(vae.decoder, activation, last)
    if found[0] is None or found[1] is None:
        raise ValueError(f"arch._target_={arch['_target_']}: cannot be exported: its networks compute K models at once")
    weights |= _named("encoder.features", found[0]) | _named("decoder.params", found[1])
    return _sequential(found[0]), _sequential(found[1])


def _activation(arch: Mapping[str, Any]) -> Layer:
    name = str(arch.get("activation"))
    if name == "leaky_relu":
        return Layer(f"nn.LeakyReLU({arch['negative_slope']})")
    return Layer(f"nn.{_ACTIVATIONS.get(name, 'Identity')}()")


def _sequential(layers: Sequence[Layer]) -> str:
    lines = "".join(f"            {layer.code},\n" for layer in layers)
    return f"nn.Sequential(\n{lines}        )"


def _named(prefix: str, layers: Sequence[Layer]) -> dict[str, Tensor]:
    return {f"{prefix}.{i}.{name}": t for i, layer in enumerate(layers) for name, t in layer.tensors.items()}


def _state(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def _call(config: Mapping[str, Any], available: Mapping[str, Any]) -> str:
    """The expression that calls a config's target with its keys and those of `available` that it names."""
    target = str(config["_target_"])
    keys = {name: value for name, value in config.items() if name != "_target_" and not _is_unset(value)}
    wanted = _wanted(target)
    keys |= {name: value for name, value in available.items() if name in wanted}
    return f"{target}({', '.join(f'{name}={_value(value)}' for name, value in keys.items())})"


def _is_unset(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("_target_", "") is None


def _value(value: Any) -> str:
    if isinstance(value, Mapping) and "_target_" in value:
        return _call(value, {})
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name!r}: {_value(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)


def _wanted(target: str) -> set[str]:
    """The names of the arguments of a user's function or class."""
    try:
        return set(inspect.signature(located(target)).parameters)
    except (TypeError, ValueError):
        return set()  # a class in C has no signature


def _imported_by(*groups: Any) -> list[str]:
    """The modules of the user's own functions and classes that the groups name, in order."""
    found = set()
    for target in targets_in(list(groups)) - OWN.keys():
        parts = target.split(".")
        names = [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]
        found.add(next((name for name in names if name in sys.modules), names[-1]))
    return sorted(found)
