"""The networks of the published set-ups, layer by layer in torch.nn, with a point's weights put into them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vae_sweeps.models import layers
from vae_sweeps.models.vae import VAE


class Literal(NamedTuple):
    """Encoder [B,C,H,W] -> [B,F], heads [B,F] -> [B,L], decoder [B,L] -> [B,D]."""

    encoder: nn.Sequential
    mu: nn.Linear
    scale: nn.Linear
    decoder: nn.Sequential


def dense(widths: Sequence[int], activation: type[nn.Module], *, activate_last: bool) -> list[nn.Module]:
    modules = [module for a, b in pairwise(widths) for module in (nn.Linear(a, b), activation())]
    return modules if activate_last else modules[:-1]


def mlp(hidden: Sequence[int], latent: int, activation: type[nn.Module]) -> Literal:
    encoder = nn.Sequential(nn.Flatten(), *dense([784, *hidden], activation, activate_last=True))
    decoder = nn.Sequential(*dense([latent, *reversed(hidden), 784], activation, activate_last=False))
    return Literal(encoder, nn.Linear(hidden[-1], latent), nn.Linear(hidden[-1], latent), decoder)


def mnist_conv(output: Sequence[nn.Module] = ()) -> Literal:
    encoder = nn.Sequential(
        *(nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU()),
    )
    decoder = nn.Sequential(
        *(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 32 * 7 * 7), nn.ReLU(), nn.Unflatten(1, (32, 7, 7))),
        *(nn.ConvTranspose2d(32, 16, 5, 2, 2, output_padding=1), nn.ReLU()),
        *(nn.ConvTranspose2d(16, 1, 5, 2, 2, output_padding=1), *output, nn.Flatten()),
    )
    return Literal(encoder, nn.Linear(128, 20), nn.Linear(128, 20), decoder)


def celeba_tf1() -> Literal:
    encoder, decoder = nn.Sequential(), nn.Sequential()
    for a, b in pairwise([3, 32, 64, 128, 256, 512]):
        encoder.extend([nn.Conv2d(a, b, 4, 2, 1), nn.BatchNorm2d(b), nn.ReLU()])
    encoder.append(nn.Flatten())
    decoder.extend([nn.Unflatten(1, (128, 1, 1)), nn.ConvTranspose2d(128, 512, 4), nn.BatchNorm2d(512), nn.ReLU()])
    for a, b in pairwise([512, 256, 128, 64, 32]):
        decoder.extend([nn.ConvTranspose2d(a, b, 4, 2, 1), nn.BatchNorm2d(b), nn.ReLU()])
    decoder.extend([nn.ConvTranspose2d(32, 3, 3, 2, 1, output_padding=1), nn.Tanh(), nn.Flatten()])
    return Literal(encoder, nn.Linear(4 * 4 * 512, 128), nn.Linear(4 * 4 * 512, 128), decoder)


def celeba_conv() -> Literal:
    """The article's network with its default list of widths, [512, 256, 128, 64, 32]."""
    encoder, decoder = nn.Sequential(), nn.Sequential()
    for a, b in [(3, 512), (512, 256), (256, 128), (128, 64), (64, 32)]:  # sides 64 -> 32 -> 16 -> 8 -> 4 -> 2
        encoder.extend([nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.LeakyReLU()])
    encoder.append(nn.Flatten())
    decoder.extend([nn.Linear(128, 32 * 2 * 2), nn.Unflatten(1, (32, 2, 2))])
    for a, b in [(32, 32), (32, 64), (64, 128), (128, 256), (256, 512)]:  # sides 2 -> 4 -> 8 -> 16 -> 32 -> 64
        decoder.extend([nn.ConvTranspose2d(a, b, 3, 2, 1, output_padding=1), nn.BatchNorm2d(b), nn.LeakyReLU()])
    decoder.extend([nn.Conv2d(512, 3, 3, 1, 1), nn.Flatten()])
    return Literal(encoder, nn.Linear(32 * 2 * 2, 128), nn.Linear(32 * 2 * 2, 128), decoder)


def celeba_conv_narrow() -> Literal:
    """The network of the repository that the article follows, without the tanh at its end."""
    encoder, decoder = nn.Sequential(), nn.Sequential()
    for a, b in [(3, 32), (32, 64), (64, 128), (128, 256), (256, 512)]:
        encoder.extend([nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.LeakyReLU()])
    encoder.append(nn.Flatten())
    decoder.extend([nn.Linear(128, 512 * 2 * 2), nn.Unflatten(1, (512, 2, 2))])
    for a, b in [(512, 256), (256, 128), (128, 64), (64, 32), (32, 32)]:
        decoder.extend([nn.ConvTranspose2d(a, b, 3, 2, 1, output_padding=1), nn.BatchNorm2d(b), nn.LeakyReLU()])
    decoder.extend([nn.Conv2d(32, 3, 3, 1, 1), nn.Flatten()])
    return Literal(encoder, nn.Linear(512 * 2 * 2, 128), nn.Linear(512 * 2 * 2, 128), decoder)


def _pairs(ours: nn.Module, theirs: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    kinds = [
        (layers.Linear, nn.Linear),
        (layers.Conv2d, nn.Conv2d),
        ((layers.FromPoint, layers.ConvTranspose2d), nn.ConvTranspose2d),
        (layers.BatchNorm2d, nn.BatchNorm2d),
    ]
    pairs = []
    for our_kind, their_kind in kinds:
        a = [module for module in ours.modules() if isinstance(module, our_kind)]
        b = [module for module in theirs.modules() if isinstance(module, their_kind)]
        pairs += zip(a, b, strict=True)
    return pairs


@torch.no_grad()
def put_weights(vae: VAE, literal: Literal) -> None:
    """Copy a VAE of one model into `literal`. A bias that only `literal` has, before batch normalisation, is kept."""
    for half in ("encoder", "decoder"):
        for ours, theirs in _pairs(getattr(vae, half), getattr(literal, half)):
            weight: Tensor = ours.weight  # type: ignore[assignment]
            if isinstance(ours, layers.Linear | layers.FromPoint):
                weight = weight[0]
            theirs.weight.copy_(weight.T if isinstance(ours, layers.Linear) else weight)  # type: ignore[operator]
            if ours.bias is not None:
                theirs.bias.copy_(ours.bias.flatten())  # type: ignore[operator]
    for i, head in enumerate((literal.mu, literal.scale)):
        head.weight.copy_(vae.heads.weight[0, :, i].T)
        head.bias.copy_(vae.heads.bias[0, 0, i])


def num_params(literal: Literal) -> int:
    """Without the biases that batch normalisation cancels."""
    total = sum(p.numel() for part in literal for p in part.parameters())
    for half in (literal.encoder, literal.decoder):
        for before, after in pairwise(half):
            if isinstance(after, nn.BatchNorm2d):
                total -= before.bias.numel()  # type: ignore[union-attr,operator]
    return total
