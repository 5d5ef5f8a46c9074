"""The convolutional architecture of K models: images are channel-stacked [B,K*C,H,W] inside."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps.models.architecture import Networks
from vae_sweeps.models.layers import (
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dense,
    FromPoint,
    Linear,
    activation_function,
    output_function,
)

Activation = Callable[[Tensor], Tensor]


def _norms(num_models: int, channels: Sequence[int], batch_norm: bool) -> nn.ModuleList:
    return nn.ModuleList(BatchNorm2d(num_models, c) if batch_norm else nn.Identity() for c in channels)


class ConvEncoder(nn.Module):
    """Convolutions, each halving the image, and dense layers: [B,C,H,W] -> [K,B,F].

    It is halved by a stride of 2, or, with `pool`, by a maximum over 2x2 after a convolution of stride 1.
    """

    def __init__(
        self,
        num_models: int,
        channels: Sequence[int],
        kernel: int,
        activation: Activation,
        *,
        batch_norm: bool,
        pool: bool = False,
        dense: Sequence[int] = (),
        num_features: int = 0,
    ) -> None:
        super().__init__()
        self.num_models, self.activation, self.pool = num_models, activation, pool
        # A bias before batch normalisation has no effect and a zero gradient, whose rounding Adam would blow up.
        self.convs = nn.ModuleList(
            Conv2d(num_models, a, b, kernel, stride=1 if pool else 2, bias=not batch_norm, shared=i == 0)
            for i, (a, b) in enumerate(pairwise(channels))
        )
        self.norms = _norms(num_models, channels[1:], batch_norm)
        self.dense = Dense(num_models, [num_features, *dense], activation, activate_last=True) if dense else None

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "K B F"]:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.activation(norm(conv(x)))
            if self.pool:
                x = F.max_pool2d(x, 2)
        features = x.reshape(x.shape[0], self.num_models, -1).transpose(0, 1)
        return features if self.dense is None else self.dense(features)


class ConvDecoder(nn.Module):
    """Dense layers, a start of [c,h,w], then transposed convolutions of stride 2: z [K,B,L] -> [K,B,D].

    start: dense, a linear map, normalised and activated as any layer; linear, that map alone; transposed, a valid
    transposed convolution of h x w from one pixel, normalised and activated. With `last_conv` the transposed
    convolutions end at as many channels as the image's last but one layer has, all activated, and a convolution of
    that kernel and stride 1 makes the image of them.
    """

    def __init__(
        self,
        num_models: int,
        latent: int,
        size: tuple[int, int],
        channels: Sequence[int],
        kernel: int,
        activation: Activation,
        *,
        batch_norm: bool,
        dense: Sequence[int] = (),
        start: str = "dense",
        last_conv: int | None = None,
        output: str = "identity",
    ) -> None:
        super().__init__()
        self.num_models, self.shape, self.activation = num_models, (channels[0], *size), activation
        self.dense = Dense(num_models, [latent, *dense], activation, activate_last=True) if dense else None
        num_in = [latent, *dense][-1]
        if start == "transposed":
            self.linear = FromPoint(num_models, num_in, channels[0], size, bias=not batch_norm)
        else:
            self.linear = Linear(num_models, num_in, prod(self.shape))
        widths = [*channels[:-1], channels[-2], channels[-1]] if last_conv else list(channels)
        ups = widths[:-1] if last_conv else widths
        before = ups if last_conv else ups[:-1]  # what is normalised and activated: all but the image
        self.is_start_activated = start != "linear"
        self.norms = _norms(num_models, before, batch_norm)
        if not self.is_start_activated:
            self.norms[0] = nn.Identity()
        last = len(ups) - 2
        self.convs = nn.ModuleList(
            ConvTranspose2d(
                num_models, a, b, kernel, stride=2, bias=not batch_norm or (i == last and last_conv is None)
            )
            for i, (a, b) in enumerate(pairwise(ups))
        )
        if last_conv:
            self.convs.append(Conv2d(num_models, widths[-2], widths[-1], last_conv, stride=1, bias=True))
        self.output = output_function(output)

    def forward(self, z: Float[Tensor, "K B L"]) -> Float[Tensor, "K B D"]:
        num_images = z.shape[1]
        x = self.linear(z if self.dense is None else self.dense(z))
        if isinstance(self.linear, Linear):
            channels, height, width = self.shape
            x = x.transpose(0, 1).reshape(num_images, self.num_models * channels, height, width)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = conv(self.activation(norm(x)) if i or self.is_start_activated else x)
        return self.output(x).reshape(num_images, self.num_models, -1).transpose(0, 1)


def conv(
    *,
    num_models: int,
    image_shape: tuple[int, int, int],
    latent: int,
    channels: Sequence[int],
    kernel: int,
    batch_norm: bool,
    activation: str,
    negative_slope: float = 0.01,
    downsampling: str = "stride",
    dense: Sequence[int] = (),
    start: str = "dense",
    last_conv: int | None = None,
    output: str = "identity",
    init: str = "pytorch",
) -> Networks:
    """Convolutions that halve the image, dense layers, and their mirror image, which always goes by strides.

    Raises ValueError where an image's side cannot be halved once for each entry of `channels`, or where a kernel that
    is even would have to leave the size as it is.
    """
    num_in, height, width = image_shape
    factor = 2 ** len(channels)
    if height % factor or width % factor:
        sides = sorted(
            {max(factor, side // factor * factor) for side in (height, width)} | {height // factor * factor + factor}
        )
        raise ValueError(
            f"arch.channels={list(channels)}: {len(channels)} layers of stride 2 need sides that {factor} divides, "
            f"such as {', '.join(map(str, sides))}; the images are {height}x{width}; use fewer channels or other images"
        )
    if downsampling == "max_pool" and kernel % 2 == 0:
        raise ValueError(f"arch.kernel={kernel}: must be odd with arch.downsampling=max_pool, or take stride")
    widths = [num_in, *channels]
    size = (height // factor, width // factor)
    num_flat = channels[-1] * prod(size)
    act = activation_function(activation, negative_slope)
    encoder = ConvEncoder(
        num_models,
        widths,
        kernel,
        act,
        batch_norm=batch_norm,
        pool=downsampling == "max_pool",
        dense=dense,
        num_features=num_flat,
    )
    decoder = ConvDecoder(
        num_models,
        latent,
        size,
        widths[::-1],
        kernel,
        act,
        batch_norm=batch_norm,
        dense=list(reversed(dense)),
        start=start,
        last_conv=last_conv,
        output=output,
    )
    return Networks(encoder, decoder, [num_flat, *dense][-1], init)
