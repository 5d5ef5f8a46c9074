"""Layers of K models at once: one set of kernels, K independent sets of weights.

Dense activations are [K,B,F]; images are channel-stacked [B,K*C,H,W]. In every weight and buffer the pack's K is the
leading factor of dimension 0, so `slots` can view any of them as K of the single-model kind.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def slots(tensor: Tensor, num_models: int) -> Tensor:
    """A view [K, n, ...] of a stacked weight or buffer [K*n, ...]: `slots(t, K)[k]` is model k's own."""
    return tensor.view(num_models, tensor.shape[0] // num_models, *tensor.shape[1:])


def _draw(layer: "Linear | Conv2d | ConvTranspose2d", fan_in: int, generator: torch.Generator) -> None:
    """U(-a, a) with a = 1/sqrt(fan_in) for weights and biases, as PyTorch's own layers have it."""
    bound = 1 / math.sqrt(fan_in)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)


class Linear(nn.Module):
    """K affine maps: x [B,in] (shared) or [K,B,in] -> [K,B,out]."""

    def __init__(self, num_models: int, num_in: int, num_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_models, num_in, num_out))
        self.bias = nn.Parameter(torch.zeros(num_models, 1, num_out))

    def forward(self, x: Tensor) -> Float[Tensor, "K B out"]:
        if x.dim() == 2:
            x = x.expand(self.weight.shape[0], *x.shape)  # a view: every model reads the same batch
        return torch.baddbmm(self.bias, x, self.weight)


class Conv2d(nn.Module):
    """K convolutions: x [B,K*in,H,W], or a shared [B,in,H,W] if `shared` -> [B,K*out,H',W']; padding (kernel-1)//2."""

    def __init__(
        self, num_models: int, num_in: int, num_out: int, kernel: int, *, stride: int, bias: bool, shared: bool = False
    ) -> None:
        super().__init__()
        self.groups = 1 if shared else num_models
        self.stride, self.padding = stride, (kernel - 1) // 2
        self.weight = nn.Parameter(torch.zeros(num_models * num_out, num_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(num_models * num_out)) if bias else None

    def forward(self, x: Tensor) -> Float[Tensor, "B Kout H W"]:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)


class ConvTranspose2d(nn.Module):
    """K transposed convolutions: x [B,K*in,H,W] -> [B,K*out,stride*H,stride*W]; mirrors `Conv2d` of stride 2."""

    def __init__(self, num_models: int, num_in: int, num_out: int, kernel: int, *, stride: int, bias: bool) -> None:
        super().__init__()
        self.groups, self.stride, self.padding = num_models, stride, (kernel - 1) // 2
        self.output_padding = stride - kernel + 2 * self.padding  # makes the output exactly stride times the input
        self.weight = nn.Parameter(torch.zeros(num_models * num_in, num_out, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(num_models * num_out)) if bias else None

    def forward(self, x: Tensor) -> Float[Tensor, "B Kout H W"]:
        return F.conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, groups=self.groups
        )


class BatchNorm2d(nn.Module):
    """Batch normalisation of x [B,K*C,H,W]: channels are independent, so this is exactly K of them.

    Source: Ioffe & Szegedy 2015. Unlike `nn.BatchNorm2d` it has no scalar buffer that K models would have to share.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_models: int, num_channels: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(num_models * num_channels))
        self.bias = nn.Parameter(torch.zeros(num_models * num_channels))
        self.register_buffer("running_mean", torch.zeros(num_models * num_channels))
        self.register_buffer("running_var", torch.ones(num_models * num_channels))

    def forward(self, x: Tensor) -> Float[Tensor, "B KC H W"]:
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
        )


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Draw every layer's weights from `generator`, in the order of `model.modules()`."""
    for module in model.modules():
        if isinstance(module, Linear):
            _draw(module, module.weight.shape[1], generator)
        elif isinstance(module, Conv2d | ConvTranspose2d):
            _draw(module, module.weight[0].numel(), generator)
