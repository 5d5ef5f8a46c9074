"""Parts as a researcher writes them: ordinary modules of one model."""

import abc
from typing import Any

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int, norm: type[nn.Module] = nn.Identity, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.Identity() if norm is nn.Identity else norm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.dropout(self.norm(self.second(torch.relu(self.first(x))))))


class Encoder(nn.Module):
    def __init__(self, image_shape: tuple[int, int, int], width: int = 3, batch_norm: bool = False, dropout: float = 0):
        super().__init__()
        norm = nn.BatchNorm2d if batch_norm else nn.Identity
        blocks = Block(width, norm, dropout), Block(width, norm, dropout)
        self.layers = nn.Sequential(nn.Conv2d(image_shape[0], width, 4, 4), *blocks, nn.Flatten())
        self.scale = nn.Parameter(torch.ones(()))  # a number: a tensor without dimensions
        self.register_buffer("offset", torch.rand(width * image_shape[1] * image_shape[2] // 16), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.layers(x) + self.offset


class Decoder(nn.Module):
    def __init__(self, image_shape: tuple[int, int, int], latent: int, width: int = 3) -> None:
        super().__init__()
        channels, height, breadth = image_shape
        self.shape = (width, height // 4, breadth // 4)
        self.first = nn.Linear(latent, width * height * breadth // 16)
        self.block = Block(width)
        self.last = nn.ConvTranspose2d(width, channels, 4, 4)

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.block(self.first(z).unflatten(1, self.shape)))


def both(image_shape: tuple[int, int, int], latent: int, width: int = 3) -> tuple[Encoder, Decoder]:
    return Encoder(image_shape, width), Decoder(image_shape, latent, width)


class StudentT(nn.Module):
    """A likelihood of one model with a learned scale."""

    def __init__(self, df: float = 4.0) -> None:
        super().__init__()
        self.df, self.log_scale = df, nn.Parameter(torch.zeros(()))

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        pixels = torch.distributions.StudentT(self.df, params, self.log_scale.exp(), validate_args=False)
        return pixels.log_prob(x).sum(-1)

    def mean(self, params: Tensor) -> Tensor:
        return params


class TwoPerPixel(nn.Module):
    """A Gaussian whose mean and scale are both of each pixel."""

    params_per_pixel = 2

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        mean, log_scale = params.chunk(2, dim=-1)
        return torch.distributions.Normal(mean, log_scale.exp(), validate_args=False).log_prob(x).sum(-1)

    def mean(self, params: Tensor) -> Tensor:
        return params.chunk(2, dim=-1)[0]


def tempered(terms: Any, step: int, beta: Tensor, temperature: float = 1.0) -> Tensor:
    """A loss of each image."""
    return -terms.log_px / temperature + beta * terms.kl


def no_loss(terms: Any, step: int) -> Tensor:
    return terms.log_px.sum()


def coupled(terms: Any, step: int) -> Tensor:
    return terms.kl - terms.log_px.mean(0)


class Noisy(Encoder):
    """Draws random numbers of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.randn_like(x) if self.training else x)


class Branching(Encoder):
    """Asks for a value, which vmap cannot give."""

    def forward(self, x: Tensor) -> Tensor:
        features = super().forward(x)
        return features * 2 if features.sum().item() > 0 else features


class NotANumber(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float("nan")


class NotANumberInTraining(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (float("nan") if self.training else 1)


class NotFlat(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return x


class TooFew(Decoder):
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z)[..., 1:]


class Raises(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("shapes\ndo not fit")


class Abstract(Encoder, abc.ABC):
    @abc.abstractmethod
    def depth(self) -> int: ...


def not_a_module(image_shape: tuple[int, int, int]) -> str:
    return "an encoder"
