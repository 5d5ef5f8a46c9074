"""The fully connected architecture of K models."""

from collections.abc import Sequence
from math import prod

from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps.models.architecture import Networks
from vae_sweeps.models.layers import Dense, activation_function


class MlpEncoder(nn.Module):
    """Map images [B,C,H,W] to features [K,B,F]; without hidden layers the features are the pixels, [B,D]."""

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
    params_per_pixel: int = 1,
) -> Networks:
    """Fully connected networks D-hidden-(heads) and L-reversed(hidden)-PD; `hidden=[]` is a linear VAE.

    P is `params_per_pixel`, the number of the likelihood's parameters for each pixel value.
    """
    num_pixels = prod(image_shape)
    act = activation_function(activation, negative_slope)
    encoder = MlpEncoder(Dense(num_models, [num_pixels, *hidden], act, activate_last=True))
    num_outputs = params_per_pixel * num_pixels
    decoder = Dense(num_models, [latent, *reversed(hidden), num_outputs], act, activate_last=False, output=output)
    return Networks(encoder, decoder, [num_pixels, *hidden][-1], init)
