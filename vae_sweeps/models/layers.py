"""Layers of K models at once: one set of kernels, K independent sets of weights.

Dense activations are [K,B,F]; images are channel-stacked [B,K*C,H,W]. In every weight and buffer the pack's K is the
leading factor of dimension 0, so `slots` can view each of them as the K tensors of single models.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps.system import distributed


def activation_function(name: str, negative_slope: float = 0.01) -> Callable[[Tensor], Tensor]:
    """The function `name` (one of `schema.ACTIVATIONS`) of torch.nn.functional; the slope is leaky_relu's below 0."""
    if name == "leaky_relu":
        return partial(F.leaky_relu, negative_slope=negative_slope)
    return getattr(F, name)


def output_function(name: str) -> Callable[[Tensor], Tensor]:
    """The function at the end of a decoder: identity, tanh (means in [-1,1]) or sigmoid (means in [0,1])."""
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
    """Affine maps of the given widths, with the activation after each map, or after each but the last."""

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
    """K transposed convolutions, without padding, of one pixel: z [K,B,in] -> [B,K*out,h,w] for an h x w kernel."""

    def __init__(self, num_models: int, num_in: int, num_out: int, size: tuple[int, int], *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_models, num_in, num_out, *size))
        self.bias = nn.Parameter(torch.zeros(num_models, num_out)) if bias else None

    def forward(self, z: Float[Tensor, "K B in"]) -> Float[Tensor, "B Kout h w"]:
        # With one pixel the convolution is a matrix product.
        x = torch.bmm(z, self.weight.flatten(2)).unflatten(2, self.weight.shape[2:])
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
    """K batch normalisations of x [B,K*C,H,W]: channels are independent, so one call computes all K.

    Source: Ioffe & Szegedy 2015. Unlike `nn.BatchNorm2d` it has no scalar buffer that K models would have to share.
    In training the statistics are those of the whole batch over all ranks. With `towers` > 1 the batch is split into
    that many parts, each with its own statistics, as in programs where each GPU normalises its own part; the running
    statistics are then the mean over the towers.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_models: int, num_channels: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps, self.towers = momentum, eps, 1
        self.batch_size: int | None = None  # size of the whole batch, if this rank sees a share of it
        self.weight = nn.Parameter(torch.ones(num_models * num_channels))
        self.bias = nn.Parameter(torch.zeros(num_models * num_channels))
        self.register_buffer("running_mean", torch.zeros(num_models * num_channels))
        self.register_buffer("running_var", torch.ones(num_models * num_channels))

    def forward(self, x: Tensor) -> Float[Tensor, "B KC H W"]:
        if self.training and self.towers > 1:
            return self._by_towers(x)
        if self.training and distributed.num_ranks() > 1:
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
        count = distributed.total(torch.tensor([x.numel() / x.shape[1]], dtype=torch.float64, device=x.device)).item()
        mean = distributed.total(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        var = distributed.total(centred.square().sum((0, 2, 3))) / count
        self._update_running_statistics(mean.detach(), var.detach() * count / max(1, count - 1))
        scale = self.weight * (var + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]

    def _by_towers(self, x: Tensor) -> Tensor:
        parts = x.split(distributed.tower_sizes(self.towers, x.shape[0], self.batch_size or x.shape[0]))
        with torch.no_grad():
            stats = [torch.var_mean(part.float() if part.dtype.itemsize < 4 else part, (0, 2, 3)) for part in parts]
            sums = [sum((s[i] for s in stats), torch.zeros_like(self.running_mean)) for i in (0, 1)]
            counts = torch.full_like(sums[0], len(parts))
            var, mean, num_towers = distributed.total(torch.stack([*sums, counts])).unbind()
            self._update_running_statistics(mean / num_towers, var / num_towers)
        if not parts:
            return x * (self.weight + self.bias)[:, None, None]  # an empty tensor whose gradient is zero
        return torch.cat(
            [F.batch_norm(part, None, None, self.weight, self.bias, training=True, eps=self.eps) for part in parts]
        )

    def _update_running_statistics(self, mean: Tensor, var: Tensor) -> None:
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var, self.momentum)
