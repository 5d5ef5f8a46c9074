"""The convolutional architecture of K models; internally images are channel-stacked [B,K*C,H,W]."""

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
    """Convolutions that each halve the image, then dense layers: [B,C,H,W] -> [K,B,F].

    A convolution has stride 2 or, with `pool`, stride 1 followed by max pooling over 2x2.
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
        # A bias before batch normalisation has no effect, and Adam would amplify the rounding of its zero gradient.
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
    """Dense layers, a first image [c,h,w], then transposed convolutions of stride 2: z [K,B,L] -> [K,B,D].

    `start` is how the first image is computed: dense, by a linear map, normalised and activated like other layers;
    linear, by that map alone; transposed, by a transposed convolution without padding of one pixel by an h x w kernel,
    normalised and activated. With `last_conv` the last transposed convolution outputs channels[-2] channels, which are
    normalised and activated, and a convolution with kernel size `last_conv` and stride 1 outputs the image.
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
        activated = ups if last_conv else ups[:-1]  # channels of all layers but the image
        self.is_start_activated = start != "linear"
        self.norms = _norms(num_models, activated, batch_norm)
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
    """An encoder of convolutions and dense layers, and a mirrored decoder, which always uses strides.

    Raises ValueError if a side of the images cannot be halved once for each entry of `channels`, or if max pooling is
    asked of an even kernel, whose convolutions cannot keep the image's size.
    """
    num_in, height, width = image_shape
    factor = 2 ** len(channels)
    if height % factor or width % factor:
        sides = sorted(
            {max(factor, side // factor * factor) for side in (height, width)} | {height // factor * factor + factor}
        )
        raise ValueError(
            f"arch.channels={list(channels)}: {len(channels)} layers of stride 2 need image sides divisible by "
            f"{factor}, such as {', '.join(map(str, sides))}; the images are {height}x{width}; "
            "use fewer channels or other images"
        )
    if downsampling == "max_pool" and kernel % 2 == 0:
        raise ValueError(
            f"arch.kernel={kernel}: must be odd with arch.downsampling=max_pool; "
            "use an odd kernel or arch.downsampling=stride"
        )
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
