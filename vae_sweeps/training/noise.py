"""The noise of the posterior samples, as a pure function of a point's seed and the step.

A point's weights and noise depend only on its seed and the step, not on its pack or on how often it was killed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_sweeps.system.rng import generator

# Seeding costs about as much as drawing a thousand normals, so one seeding serves several steps of small batches.
_IMAGES_PER_DRAW = 1024


class PosteriorNoise:
    """Standard normal noise of K points: `noise(step)` -> eps [K,B,L], a pure function of the points' seeds and step.

    Point k draws [steps, B, latents[k]] from its own generator, so its noise is the same as if it trained alone;
    the padding up to L = max(latents) is zero.
    """

    def __init__(
        self, seeds: Sequence[int], latents: Sequence[int], batch_size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.seeds, self.latents = list(seeds), list(latents)
        self.steps_per_draw = max(1, _IMAGES_PER_DRAW // batch_size)
        shape = (self.steps_per_draw, len(self.seeds), batch_size, max(latents))
        self._eps = torch.zeros(shape, device=device, dtype=dtype)
        self._block = -1

    def __call__(self, step: int) -> Tensor:
        """eps [K,B,L] of step `step`; a smaller last batch uses the first rows."""
        block, i = divmod(step, self.steps_per_draw)
        if block != self._block:
            steps, _, batch_size, _ = self._eps.shape
            for k, (seed, latent) in enumerate(zip(self.seeds, self.latents, strict=True)):
                draw = generator("eps", seed, block, device=self._eps.device)
                eps = torch.randn(
                    steps, batch_size, latent, generator=draw, device=self._eps.device, dtype=self._eps.dtype
                )
                self._eps[:, k, :, :latent] = eps
            self._block = block
        return self._eps[i]
