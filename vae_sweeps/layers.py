"""Layers of K models at once: one set of kernels, K independent sets of weights.

Dense activations are [K,B,F]; images are channel-stacked [B,K*C,H,W]. In every weight and buffer the pack's K is the
leading factor of dimension 0, so `slots` can view any of them as K of the single-model kind.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps import parallel


def slots(tensor: Tensor, num_models: int) -> Tensor:
    """A view [K, n, ...] of a stacked weight or buffer [K*n, ...]: `slots(t, K)[k]` is model k's own."""
    return tensor.view(num_models, tensor.shape[0] // num_models, *tensor.shape[1:])


def draw(weight: Tensor, bias: Tensor | None, fans: tuple[int, int], init: str, generator: torch.Generator) -> None:
    """Draw a layer's weight and bias in place; `fans` are its inputs and outputs in PyTorch's counting.

    init: pytorch, U(+-1/sqrt(in)) for both; the others leave biases at 0 and draw weights from
    he, N(0, 2/in) (He et al. 2015); xavier, U(+-sqrt(6/(in+out))) (Glorot & Bengio 2010);
    truncated_normal, N(0, 1/in) cut at two standard deviations (Sonnet's own).
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


def activation_function(name: str, negative_slope: float = 0.01) -> Callable[[Tensor], Tensor]:
    """torch.nn.functional's `name`, for one of `config.ACTIVATIONS`; the slope is leaky_relu's below 0."""
    if name == "leaky_relu":
        return partial(F.leaky_relu, negative_slope=negative_slope)
    return getattr(F, name)


def output_function(name: str) -> Callable[[Tensor], Tensor]:
    """What ends a decoder: identity, tanh (means in [-1,1]) or sigmoid (means in [0,1])."""
    return {"identity": lambda x: x, "tanh": torch.tanh, "sigmoid": torch.sigmoid}[name]


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


class Dense(nn.Module):
    """Affine maps of the widths given, with the activation after each, or after each but the last."""

    def __init__(
        self,
        num_models: int,
        widths: Sequence[int],
        activation: Callable[[Tensor], Tensor],
        *,
        activate_last: bool,
        output: str = "identity",
    ) -> None:
        super().__init__()
        self.maps = nn.ModuleList(Linear(num_models, a, b) for a, b in pairwise(widths))
        self.activation, self.output = activation, output_function(output)
        self.num_activated = len(self.maps) - (0 if activate_last else 1)

    def forward(self, x: Tensor) -> Float[Tensor, "K B F"]:
        for i, affine in enumerate(self.maps):
            x = affine(x)
            if i < self.num_activated:
                x = self.activation(x)
        return self.output(x)


class FromPoint(nn.Module):
    """K valid transposed convolutions of an image of one pixel: z [K,B,in] -> [B,K*out,h,w], h x w the kernel."""

    def __init__(self, num_models: int, num_in: int, num_out: int, size: tuple[int, int], *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_models, num_in, num_out, *size))
        self.bias = nn.Parameter(torch.zeros(num_models, num_out)) if bias else None

    def forward(self, z: Float[Tensor, "K B in"]) -> Float[Tensor, "B Kout h w"]:
        x = torch.bmm(z, self.weight.flatten(2)).unflatten(2, self.weight.shape[2:])  # a product, since only one pixel
        if self.bias is not None:
            x = x + self.bias[:, None, :, None, None]
        return x.transpose(0, 1).flatten(1, 2)


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
    In training the statistics are those of the whole batch over all ranks, or with `towers` > 1 those of each of so
    many parts of it, as where each GPU normalised its own; the running ones are then the towers' mean.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_models: int, num_channels: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps, self.towers = momentum, eps, 1
        self.weight = nn.Parameter(torch.ones(num_models * num_channels))
        self.bias = nn.Parameter(torch.zeros(num_models * num_channels))
        self.register_buffer("running_mean", torch.zeros(num_models * num_channels))
        self.register_buffer("running_var", torch.ones(num_models * num_channels))

    def forward(self, x: Tensor) -> Float[Tensor, "B KC H W"]:
        if self.training and self.towers > 1:
            return self._by_towers(x)
        if self.training and parallel.num_ranks() > 1:
            return self._over_ranks(x)
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

    def _over_ranks(self, x: Tensor) -> Tensor:
        count = parallel.total(torch.tensor([x.numel() / x.shape[1]], dtype=torch.float64, device=x.device)).item()
        mean = parallel.total(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        var = parallel.total(centred.square().sum((0, 2, 3))) / count
        self._remember(mean.detach(), var.detach() * count / max(1, count - 1))
        scale = self.weight * (var + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]

    def _by_towers(self, x: Tensor) -> Tensor:
        parts = x.split(parallel.tower_sizes(self.towers, x.shape[0]))
        with torch.no_grad():
            found = [torch.var_mean(part.float() if part.dtype.itemsize < 4 else part, (0, 2, 3)) for part in parts]
            own = [sum((s[i] for s in found), torch.zeros_like(self.running_mean)) for i in (0, 1)]
            var, mean, num_towers = parallel.total(torch.stack([*own, torch.full_like(own[0], len(parts))])).unbind()
            self._remember(mean / num_towers, var / num_towers)
        if not parts:
            return x * (self.weight + self.bias)[:, None, None]  # empty, with a gradient of zero
        return torch.cat(
            [F.batch_norm(part, None, None, self.weight, self.bias, training=True, eps=self.eps) for part in parts]
        )

    def _remember(self, mean: Tensor, var: Tensor) -> None:
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var, self.momentum)


def initialise(model: nn.Module, generator: torch.Generator, init: str = "pytorch") -> None:
    """Draw the weights of a model of one point from `generator`, in the order of `modules()`; `init` as in `draw`."""
    for module in model.modules():
        if isinstance(module, Linear):
            _, fan_in, fan_out = module.weight.shape
        elif isinstance(module, FromPoint | Conv2d | ConvTranspose2d):
            one = module.weight[0] if isinstance(module, FromPoint) else module.weight
            fan_in, fan_out = one[0].numel(), one[:, 0].numel()
        else:
            continue
        draw(module.weight, module.bias, (fan_in, fan_out), init, generator)
