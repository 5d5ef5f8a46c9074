"""Drawn shapes: squares and discs of random places and sizes, with their kind as the label."""

import torch
from torch.utils.data import Dataset


class Shapes(Dataset):
    def __init__(self, num=1000, size=16, seed=0):
        self.num, self.size, self.seed = num, size, seed

    def __len__(self):
        return self.num

    def __getitem__(self, i):
        draw = torch.Generator().manual_seed(1_000_003 * self.seed + i)
        radius = 2 + 3 * torch.rand(1, generator=draw)
        centre = radius + (self.size - 2 * radius) * torch.rand(2, generator=draw)
        steps = torch.arange(self.size) + 0.5
        x, y = steps[None, :] - centre[0], steps[:, None] - centre[1]
        kind = int(torch.randint(2, (1,), generator=draw))
        inside = x.abs().maximum(y.abs()) < radius if kind == 0 else x.square() + y.square() < radius**2
        return (255 * inside).to(torch.uint8)[None], kind
