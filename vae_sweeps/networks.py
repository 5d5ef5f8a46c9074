"""Encoders and decoders of K models. An architecture is a function that returns a pair of them (conf/arch).

An encoder maps a shared batch [B,C,H,W] to features [K,B,F]; a decoder maps z [K,B,L] to the likelihood's
parameters [K,B,D], D = C*H*W. The heads of the posterior belong to the VAE.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps.convolutions import ConvDecoder, ConvEncoder
from vae_sweeps.layers import Dense, activation_function


class Networks(NamedTuple):
    """What an architecture returns; `num_features` is the encoder's width F of output, `init` as in `layers.draw`."""

    encoder: nn.Module
    decoder: nn.Module
    num_features: int
    init: str = "pytorch"


class MlpEncoder(nn.Module):
    """[B,C,H,W] -> [K,B,F]; without hidden layers the pixels themselves, [B,D]."""

    def __init__(self, layers: Dense) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Float[Tensor, "B C H W"]) -> Tensor:
        return self.layers(x.flatten(1))


def mlp(
    *,
    num_models: int,
    image_shape: tuple[int, int, int],
    latent: int,
    hidden: Sequence[int],
    activation: str,
    negative_slope: float = 0.01,
    output: str = "identity",
    init: str = "pytorch",
) -> Networks:
    """Fully connected networks D-hidden-(heads) and L-reversed(hidden)-D; `hidden=[]` is a linear VAE."""
    num_pixels = prod(image_shape)
    act = activation_function(activation, negative_slope)
    encoder = MlpEncoder(Dense(num_models, [num_pixels, *hidden], act, activate_last=True))
    decoder = Dense(num_models, [latent, *reversed(hidden), num_pixels], act, activate_last=False, output=output)
    return Networks(encoder, decoder, [num_pixels, *hidden][-1], init)


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
