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

    `channels` are those of the first image and of the images that are computed from it, except the last, which has
    `num_out`. `start` is how the first image is computed: dense, by a linear map, normalised and activated like other
    layers; linear, by that map alone; transposed, by a transposed convolution without padding of one pixel by an h x w
    kernel, normalised and activated. The last layer is the last transposed convolution or, with `last_conv`, a
    convolution with this kernel size and stride 1. `last_kernel` is the kernel size of the last transposed convolution.
    """

    def __init__(
        self,
        num_models: int,
        latent: int,
        size: tuple[int, int],
        channels: Sequence[int],
        num_out: int,
        kernel: int,
        activation: Activation,
        *,
        batch_norm: bool,
        last_kernel: int | None = None,
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
        self.is_start_activated = start != "linear"
        self.norms = _norms(num_models, channels, batch_norm)
        if not self.is_start_activated:
            self.norms[0] = nn.Identity()
        pairs = list(pairwise(channels if last_conv else [*channels, num_out]))
        kernels = [*[kernel] * (len(pairs) - 1), last_kernel or kernel]
        self.convs = nn.ModuleList(
            # Only the image, which is output i = len(channels) - 1, is not normalised.
            ConvTranspose2d(num_models, a, b, kernels[i], stride=2, bias=not batch_norm or i == len(channels) - 1)
            for i, (a, b) in enumerate(pairs)
        )
        if last_conv:
            self.convs.append(Conv2d(num_models, channels[-1], num_out, last_conv, stride=1, bias=True))
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
    decoder_channels: Sequence[int] | None = None,
    last_kernel: int | None = None,
    last_conv: int | None = None,
    output: str = "identity",
    init: str = "pytorch",
    params_per_pixel: int = 1,
) -> Networks:
    """An encoder of convolutions and dense layers, and a mirrored decoder, which always uses strides.

    The decoder has `params_per_pixel` times the channels of the images, [P*C,H,W], for the likelihood's parameters.
    Raises ValueError if a side of the images cannot be halved once for each entry of `channels`, if the decoder would
    not double as often, or if max pooling is asked of an even kernel, whose convolutions cannot keep the image's size.
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
    mirrored = [*reversed(channels), *([channels[0]] if last_conv else [])]
    if decoder_channels is not None and len(decoder_channels) != len(mirrored):
        raise ValueError(
            f"arch.decoder_channels={list(decoder_channels)}: must have {len(mirrored)} entries with "
            f"{len(channels)} in arch.channels and arch.last_conv={last_conv or 'null'}; "
            f"arch.decoder_channels=null is {mirrored}"
        )
    size = (height // factor, width // factor)
    num_flat = channels[-1] * prod(size)
    act = activation_function(activation, negative_slope)
    encoder = ConvEncoder(
        num_models,
        [num_in, *channels],
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
        mirrored if decoder_channels is None else decoder_channels,
        params_per_pixel * num_in,
        kernel,
        act,
        batch_norm=batch_norm,
        last_kernel=last_kernel,
        dense=list(reversed(dense)),
        start=start,
        last_conv=last_conv,
        output=output,
    )
    return Networks(encoder, decoder, [num_flat, *dense][-1], init)
