"""Encoders and decoders of K models. An architecture is a function that returns a pair of them (conf/arch).

An encoder maps a shared batch [B,C,H,W] to features [K,B,F] and has `num_features`; a decoder maps z [K,B,L] to the
likelihood's parameters [K,B,D], D = C*H*W. The heads of the posterior belong to the VAE.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps.layers import BatchNorm2d, Conv2d, ConvTranspose2d, Linear


class Networks(NamedTuple):
    """What an architecture returns; `encoder.num_features` is the width F of the encoder's output."""

    encoder: nn.Module
    decoder: nn.Module
    num_features: int


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """torch.nn.functional's `name`, for one of `config.ACTIVATIONS`."""
    return getattr(F, name)


class Dense(nn.Module):
    """Affine maps of the widths given, with the activation after each, or after each but the last."""

    def __init__(self, num_models: int, widths: Sequence[int], activation: str, *, activate_last: bool) -> None:
        super().__init__()
        self.maps = nn.ModuleList(Linear(num_models, a, b) for a, b in pairwise(widths))
        self.activation = activation_function(activation)
        self.num_activated = len(self.maps) - (0 if activate_last else 1)

    def forward(self, x: Tensor) -> Float[Tensor, "K B F"]:
        for i, affine in enumerate(self.maps):
            x = affine(x)
            if i < self.num_activated:
                x = self.activation(x)
        return x


class MlpEncoder(nn.Module):
    """[B,C,H,W] -> [K,B,F]; without hidden layers the pixels themselves, [B,D]."""

    def __init__(self, num_models: int, num_pixels: int, hidden: Sequence[int], activation: str) -> None:
        super().__init__()
        self.layers = Dense(num_models, [num_pixels, *hidden], activation, activate_last=True)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Tensor:
        return self.layers(x.flatten(1))


def mlp(
    *, num_models: int, image_shape: tuple[int, int, int], latent: int, hidden: Sequence[int], activation: str
) -> Networks:
    """Fully connected networks D-hidden-(heads) and L-reversed(hidden)-D; `hidden=[]` is a linear VAE."""
    num_pixels = prod(image_shape)
    encoder = MlpEncoder(num_models, num_pixels, hidden, activation)
    decoder = Dense(num_models, [latent, *reversed(hidden), num_pixels], activation, activate_last=False)
    return Networks(encoder, decoder, [num_pixels, *hidden][-1])


class ConvEncoder(nn.Module):
    """Convolutions of stride 2, each halving the image: [B,C,H,W] -> [K,B,c*h*w]."""

    def __init__(
        self, num_models: int, channels: Sequence[int], kernel: int, activation: str, *, batch_norm: bool
    ) -> None:
        super().__init__()
        self.num_models, self.activation = num_models, activation_function(activation)
        # A bias before batch normalisation has no effect and a zero gradient, whose rounding Adam would blow up.
        self.convs = nn.ModuleList(
            Conv2d(num_models, a, b, kernel, stride=2, bias=not batch_norm, shared=i == 0)
            for i, (a, b) in enumerate(pairwise(channels))
        )
        self.norms = nn.ModuleList(BatchNorm2d(num_models, c) if batch_norm else nn.Identity() for c in channels[1:])

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "K B F"]:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.activation(norm(conv(x)))
        return x.reshape(x.shape[0], self.num_models, -1).transpose(0, 1)


class ConvDecoder(nn.Module):
    """A linear map to [c,h,w], then transposed convolutions of stride 2: z [K,B,L] -> [K,B,D]."""

    def __init__(
        self,
        num_models: int,
        latent: int,
        start: tuple[int, int, int],
        channels: Sequence[int],
        kernel: int,
        activation: str,
        *,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        self.num_models, self.start = num_models, start
        self.activation = activation_function(activation)
        self.linear = Linear(num_models, latent, prod(start))
        self.norms = nn.ModuleList(BatchNorm2d(num_models, c) if batch_norm else nn.Identity() for c in channels[:-1])
        last = len(channels) - 2
        self.convs = nn.ModuleList(
            ConvTranspose2d(num_models, a, b, kernel, stride=2, bias=i == last or not batch_norm)
            for i, (a, b) in enumerate(pairwise(channels))
        )

    def forward(self, z: Float[Tensor, "K B L"]) -> Float[Tensor, "K B D"]:
        num_images = z.shape[1]
        channels, height, width = self.start
        x = self.linear(z).transpose(0, 1).reshape(num_images, self.num_models * channels, height, width)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(self.activation(norm(x)))
        return x.view(num_images, self.num_models, -1).transpose(0, 1)


def conv(
    *,
    num_models: int,
    image_shape: tuple[int, int, int],
    latent: int,
    channels: Sequence[int],
    kernel: int,
    batch_norm: bool,
    activation: str,
) -> Networks:
    """Strided convolutions and their mirror image.

    Raises ValueError where an image's side cannot be halved once for each entry of `channels`.
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
    widths = [num_in, *channels]
    start = (channels[-1], height // factor, width // factor)
    encoder = ConvEncoder(num_models, widths, kernel, activation, batch_norm=batch_norm)
    decoder = ConvDecoder(num_models, latent, start, widths[::-1], kernel, activation, batch_norm=batch_norm)
    return Networks(encoder, decoder, prod(start))
