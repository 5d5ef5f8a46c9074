"""A model's networks as plain modules of one model: the Python expressions that make them, and their weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from vae_sweeps.models import layers
from vae_sweeps.models.convolutional import ConvDecoder, ConvEncoder
from vae_sweeps.models.dense import MlpEncoder


@dataclass(frozen=True)
class Layer:
    """The expression that makes a module of `torch.nn`, and the tensors that the module holds, by name."""

    code: str
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


def layers_of(module: nn.Module, activation: Layer, output: Layer | None) -> list[Layer] | None:
    """The layers that compute what one of our encoders or decoders of K = 1 computes; None for another module.

    `activation` is the one of the networks, and `output` the last layer of the decoder, None for the identity.
    """
    if isinstance(module, MlpEncoder):
        return [Layer("nn.Flatten()"), *_dense(module.layers, activation)]
    if isinstance(module, layers.Dense):
        return [*_dense(module, activation), *([output] if output else [])]
    if isinstance(module, ConvEncoder):
        return list(_conv_encoder(module, activation))
    if isinstance(module, ConvDecoder):
        return [*_conv_decoder(module, activation), *([output] if output else [])]
    return None


def linear(weight: Tensor, bias: Tensor) -> Layer:
    """x W + b, with W [in,out] and b [out]; `nn.Linear` stores W as [out,in]."""
    num_in, num_out = weight.shape
    return Layer(f"nn.Linear({num_in}, {num_out})", {"weight": weight.T, "bias": bias})


def _dense(dense: layers.Dense, activation: Layer) -> Iterator[Layer]:
    for i, affine in enumerate(dense.maps):
        assert isinstance(affine, layers.Linear)
        yield linear(affine.weight[0], affine.bias[0, 0])
        if i < dense.num_activated:
            yield activation


def _conv_encoder(encoder: ConvEncoder, activation: Layer) -> Iterator[Layer]:
    for conv, norm in zip(encoder.convs, encoder.norms, strict=True):
        yield _conv(conv)
        yield from _norm(norm)
        yield activation
        if encoder.pool:
            yield Layer("nn.MaxPool2d(2)")
    yield Layer("nn.Flatten()")
    if encoder.dense is not None:
        yield from _dense(encoder.dense, activation)


def _conv_decoder(decoder: ConvDecoder, activation: Layer) -> Iterator[Layer]:
    if decoder.dense is not None:
        yield from _dense(decoder.dense, activation)
    if isinstance(decoder.linear, layers.FromPoint):
        yield from _from_point(decoder.linear)
    else:
        yield linear(decoder.linear.weight[0], decoder.linear.bias[0, 0])
        yield Layer(f"nn.Unflatten(1, {decoder.shape})")
    for i, (conv, norm) in enumerate(zip(decoder.convs, decoder.norms, strict=True)):
        if i or decoder.is_start_activated:
            yield from _norm(norm)
            yield activation
        yield _conv(conv)


def _from_point(module: layers.FromPoint) -> Iterator[Layer]:
    _, num_in, num_out, *size = module.weight.shape
    yield Layer(f"nn.Unflatten(1, ({num_in}, 1, 1))")
    tensors = {"weight": module.weight[0]} | ({} if module.bias is None else {"bias": module.bias[0]})
    yield Layer(f"nn.ConvTranspose2d({num_in}, {num_out}, {tuple(size)}, bias={module.bias is not None})", tensors)


def _conv(conv: nn.Module) -> Layer:
    assert isinstance(conv, layers.Conv2d | layers.ConvTranspose2d)
    has_bias = conv.bias is not None
    first, second, kernel, _ = conv.weight.shape
    keys = f"stride={conv.stride}, padding={conv.padding}"
    if isinstance(conv, layers.ConvTranspose2d):
        name, keys = "ConvTranspose2d", f"{keys}, output_padding={conv.output_padding}"
    else:
        name, first, second = "Conv2d", second, first
    tensors = {"weight": conv.weight} | ({} if conv.bias is None else {"bias": conv.bias})
    return Layer(f"nn.{name}({first}, {second}, {kernel}, {keys}, bias={has_bias})", tensors)


def _norm(norm: nn.Module) -> Iterator[Layer]:
    if isinstance(norm, layers.BatchNorm2d):
        tensors: dict[str, Tensor] = {
            name: getattr(norm, name) for name in ("weight", "bias", "running_mean", "running_var")
        }
        tensors["num_batches_tracked"] = norm.running_mean.new_zeros(()).long()  # `nn.BatchNorm2d` has one
        yield Layer(f"nn.BatchNorm2d({len(norm.weight)}, eps={norm.eps}, momentum={norm.momentum})", tensors)
