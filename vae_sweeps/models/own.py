"""Networks and likelihoods of the user's own: found by their address, given what they ask for, and checked."""

import inspect
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps.config.targets import instantiate_target, located
from vae_sweeps.models.architecture import Networks
from vae_sweeps.models.copies import Copies

OWN_PAIR = "vae_sweeps.models.custom"

Pair = tuple[nn.Module, nn.Module]


class OwnEncoder(nn.Module):
    """K encoders, each [B,C,H,W] -> [B,F]."""

    def __init__(self, module: nn.Module, num_models: int) -> None:
        super().__init__()
        self.copies = Copies(module, num_models)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "K B F"]:
        return self.copies.call("forward", x, is_shared=[True])


class OwnDecoder(nn.Module):
    """K decoders, each [B,L] -> `num_outputs` numbers per image, in any shape."""

    def __init__(self, module: nn.Module, num_models: int, num_outputs: int) -> None:
        super().__init__()
        self.copies, self.num_outputs = Copies(module, num_models), num_outputs

    def forward(self, z: Float[Tensor, "K B L"]) -> Float[Tensor, "K B D"]:
        return self.copies.call("forward", z, is_shared=[False]).flatten(2)


class OwnLikelihood(nn.Module):
    """K likelihoods of one model each, with the methods of ours."""

    def __init__(self, module: nn.Module, num_models: int) -> None:
        super().__init__()
        self.copies = Copies(module, num_models)
        self.params_per_pixel: int = getattr(module, "params_per_pixel", 1)
        self.is_density: bool = getattr(module, "is_density", True)

    def log_prob(self, params: Float[Tensor, "K B P"], x: Float[Tensor, "B D"]) -> Float[Tensor, "K B"]:
        return self.copies.call("log_prob", params, x, is_shared=[False, True])

    def mean(self, params: Float[Tensor, "K B P"]) -> Float[Tensor, "K B D"]:
        return self.copies.call("mean", params, is_shared=[False])


def custom(
    *,
    num_models: int,
    image_shape: tuple[int, int, int],
    latent: int,
    params_per_pixel: int,
    encoder: Mapping[str, Any],
    decoder: Mapping[str, Any],
) -> Networks:
    """The networks of `arch=custom`: an encoder and a decoder of one model each, which the user's configs name.

    The encoder maps images [B,C,H,W] to features [B,F], the decoder z [B,L] to `params_per_pixel` numbers for each
    pixel value, in any shape that flattens to these. Their constructors get those of `image_shape`, `latent` and
    `num_outputs` that they name. Raises ValueError if they cannot be made, or do not fit.
    """
    available = {"image_shape": image_shape, "latent": latent, "num_outputs": params_per_pixel * prod(image_shape)}

    def make() -> Pair:
        return _module("arch.encoder", encoder, available), _module("arch.decoder", decoder, available)

    return networks_of(make, num_models, image_shape, latent, params_per_pixel)


def own_networks(
    arch: Mapping[str, Any],
    num_models: int,
    image_shape: tuple[int, int, int],
    latent: int,
    params_per_pixel: int,
) -> Networks:
    """The networks of a user's function that returns both: of K models if it has an argument `num_models`, else of one.

    Raises ValueError if they cannot be made, or do not fit.
    """
    keys = {name: value for name, value in arch.items() if not _is_unset(value)}
    num_outputs = params_per_pixel * prod(image_shape)
    available = {"image_shape": image_shape, "latent": latent, "num_outputs": num_outputs}
    if is_for_many(str(arch["_target_"])):
        of_many = {"num_models": num_models, "image_shape": image_shape, "latent": latent}
        networks = instantiate_target(keys, **of_many)
        if not isinstance(networks, Networks):
            kind = type(networks).__name__
            raise ValueError(f"_target_={arch['_target_']}: must return vae_sweeps.models.Networks; it returned {kind}")
        return networks

    def make() -> Pair:
        pair = _made("arch", keys, available)
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(part, nn.Module) for part in pair):
            raise ValueError(f"_target_={arch['_target_']}: must return an encoder and a decoder, two nn.Modules")
        return pair

    return networks_of(make, num_models, image_shape, latent, params_per_pixel)


def networks_of(
    make: Callable[[], Pair], num_models: int, image_shape: tuple[int, int, int], latent: int, params_per_pixel: int = 1
) -> Networks:
    """The networks of K models of the two modules of one model that `make` returns.

    Raises ValueError if they do not fit.
    """
    encoder, decoder = make()
    num_outputs = params_per_pixel * prod(image_shape)
    num_features = _num_features(encoder, image_shape)
    _check_decoder(decoder, latent, num_outputs, image_shape)
    return Networks(OwnEncoder(encoder, num_models), OwnDecoder(decoder, num_models, num_outputs), num_features)


def own_likelihood(config: Mapping[str, Any], num_models: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """K copies of a user's likelihood of one model. Raises ValueError if it cannot be made."""
    module = _module("likelihood", config, {"image_shape": image_shape})
    for method in ("log_prob", "mean"):
        if not callable(getattr(module, method, None)):
            raise ValueError(f"_target_={config['_target_']}: has no method {method}; a likelihood must have one")
    return OwnLikelihood(module, num_models)


def is_for_many(target: str) -> bool:
    """Whether a user's function makes a part of K models: it then has an argument `num_models`, or takes any.

    A class must name it, since the constructor that all modules inherit takes any arguments.
    """
    parameters = _parameters(target)
    return "num_models" in parameters or ("**" in parameters and not inspect.isclass(located(target)))


def _parameters(target: str) -> set[str]:
    """The names of a function's parameters, with ** if it takes any."""
    function = located(target)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set()  # a class in C has no signature
    return {"**" if parameter.kind is parameter.VAR_KEYWORD else parameter.name for parameter in parameters}


def _is_unset(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("_target_", "") is None


def _made(key: str, config: Mapping[str, Any], available: Mapping[str, Any]) -> Any:
    """What the config's target returns, given its keys and those of `available` that it names."""
    target = config.get("_target_")
    if target is None:
        raise ValueError(f"{key}._target_=null: must be the full dotted name of a class or function, as in my_nets.Net")
    wanted = _parameters(str(target))
    return instantiate_target(config, **{name: value for name, value in available.items() if name in wanted})


def _module(key: str, config: Mapping[str, Any], available: Mapping[str, Any]) -> nn.Module:
    module = _made(key, config, available)
    if not isinstance(module, nn.Module):
        raise ValueError(f"{key}._target_={config['_target_']}: must be an nn.Module; it is {type(module).__name__}")
    return module


@torch.no_grad()
def _num_features(encoder: nn.Module, image_shape: tuple[int, int, int]) -> int:
    features = _output("arch.encoder", encoder, torch.rand(2, *image_shape), f"images {[2, *image_shape]}")
    if features.dim() != 2 or len(features) != 2 or not features.shape[1]:
        raise ValueError(
            f"arch.encoder: returned {list(features.shape)} for images {[2, *image_shape]}; must return features "
            "[B,F], here [2,F]; nn.Flatten() makes them of images"
        )
    return features.shape[1]


@torch.no_grad()
def _check_decoder(decoder: nn.Module, latent: int, num_outputs: int, image_shape: tuple[int, int, int]) -> None:
    params = _output("arch.decoder", decoder, torch.randn(2, latent), f"z {[2, latent]}")
    if not params.dim() or len(params) != 2 or params.numel() != 2 * num_outputs:
        raise ValueError(
            f"arch.decoder: returned {list(params.shape)} for z {[2, latent]}; must return {num_outputs} numbers per "
            f"image, in any shape [2,...], as the likelihood needs for images of {'x'.join(map(str, image_shape))}"
        )


def _output(key: str, module: nn.Module, x: Tensor, words: str) -> Tensor:
    """The module's output in evaluation, which is a tensor of finite numbers."""
    was_training = module.training
    module.eval()
    try:
        out = module(x)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{key}: raised {type(error).__name__} for {words}: {reason}") from error
    finally:
        module.train(was_training)
    if not isinstance(out, Tensor) or not out.is_floating_point():
        kind = str(out.dtype) if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(f"{key}: returned {kind} for {words}; must return a tensor of floating-point numbers")
    if not out.isfinite().all():
        raise ValueError(f"{key}: returned NaN or infinity for {words}, with its initial weights")
    return out
