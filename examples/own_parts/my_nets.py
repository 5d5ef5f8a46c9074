"""A residual encoder and decoder: ordinary modules of one model."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Encoder(nn.Module):
    def __init__(self, image_shape, width=16, dropout=0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(image_shape[0], width, 4, 4), Block(width), nn.Dropout(dropout), nn.Flatten()
        )

    def forward(self, x):
        return self.layers(x)


class Decoder(nn.Module):
    def __init__(self, image_shape, latent, width=16):
        super().__init__()
        channels, height, breadth = image_shape
        self.size = (width, height // 4, breadth // 4)
        self.first = nn.Linear(latent, width * height * breadth // 16)
        self.last = nn.Sequential(Block(width), nn.ConvTranspose2d(width, channels, 4, 4))

    def forward(self, z):
        return self.last(self.first(z).unflatten(1, self.size))


def both(image_shape, latent, width=16):
    return Encoder(image_shape, width), Decoder(image_shape, latent, width)
