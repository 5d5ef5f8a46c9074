"""Initial weights of K models' layers, drawn from a given generator."""

import math

import torch
from torch import Tensor, nn

from vae_sweeps.models.layers import Conv2d, ConvTranspose2d, FromPoint, Linear


def draw(weight: Tensor, bias: Tensor | None, fans: tuple[int, int], init: str, generator: torch.Generator) -> None:
    """Draw a layer's weight and bias in place; `fans` are (fan_in, fan_out), counted as PyTorch does.

    init: pytorch draws both from U(+-1/sqrt(in)). The others set biases to 0 and draw weights: he from N(0, 2/in)
    (He et al. 2015); xavier from U(+-sqrt(6/(in+out))) (Glorot & Bengio 2010); truncated_normal from N(0, 1/in) cut at
    two standard deviations (Sonnet's default).
    """
    fan_in, fan_out = fans
    deviation = 1 / math.sqrt(fan_in)
    with torch.no_grad():
        if init == "pytorch":
            weight.uniform_(-deviation, deviation, generator=generator)
            if bias is not None:
                bias.uniform_(-deviation, deviation, generator=generator)
            return
        if init == "he":
            weight.normal_(0, math.sqrt(2) * deviation, generator=generator)
        elif init == "xavier":
            bound = math.sqrt(6 / (fan_in + fan_out))
            weight.uniform_(-bound, bound, generator=generator)
        else:
            assert init == "truncated_normal", init
            nn.init.trunc_normal_(weight, 0, deviation, -2 * deviation, 2 * deviation, generator=generator)
        if bias is not None:
            bias.zero_()


def initialise_layers(model: nn.Module, generator: torch.Generator, init: str = "pytorch") -> None:
    """Draw the weights of a model of one point from `generator`, in the order of `modules()`; `init` as in `draw`."""
    for module in model.modules():
        if isinstance(module, Linear):
            _, fan_in, fan_out = module.weight.shape
        elif isinstance(module, FromPoint | Conv2d | ConvTranspose2d):
            weight = module.weight[0] if isinstance(module, FromPoint) else module.weight
            fan_in, fan_out = weight[0].numel(), weight[:, 0].numel()
        else:
            continue
        draw(module.weight, module.bias, (fan_in, fan_out), init, generator)
