"""The contract of an architecture: a function that returns an encoder and a decoder of K models.

An encoder maps a shared batch [B,C,H,W] to features [K,B,F]; a decoder maps z [K,B,L] to the likelihood's
parameters [K,B,D], D = C*H*W. The heads of the posterior belong to the VAE.
"""

from typing import NamedTuple

from torch import nn


class Networks(NamedTuple):
    """What an architecture returns; `num_features` is the encoder's output width F, `init` is as in `init.draw`."""

    encoder: nn.Module
    decoder: nn.Module
    num_features: int
    init: str = "pytorch"
