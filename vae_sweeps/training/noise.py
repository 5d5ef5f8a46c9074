"""The noise of the posterior samples, as a pure function of a point's seed and the step.

A point's weights and noise depend only on its seed and the step, not on its pack or on how often it was killed.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from vae_sweeps.system.rng import generator

# Seeding costs about as much as drawing a thousand normals, so one seeding serves several steps of small batches. A GPU
# draws each point's noise by an operation of its own, which should be rare beside the steps of a pack of many points.
_IMAGES_PER_DRAW, _IMAGES_PER_DRAW_ON_GPU = 1024, 8192


class PosteriorNoise:
    """Standard normal noise of K points: `noise(step)` -> eps [K,B,L], a pure function of the points' seeds and step.

    Point k draws [steps, B, latents[k]] from its own generator, so its noise is the same as if it trained alone;
    the padding up to L = max(latents) is zero.
    """

    def __init__(
        self, seeds: Sequence[int], latents: Sequence[int], batch_size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.seeds, self.latents = list(seeds), list(latents)
        images_per_draw = _IMAGES_PER_DRAW if device.type == "cpu" else _IMAGES_PER_DRAW_ON_GPU
        self.steps_per_draw = max(1, images_per_draw // batch_size)
        shape = (self.steps_per_draw, len(self.seeds), batch_size, max(latents))
        self._eps = torch.zeros(shape, device=device, dtype=dtype)
        self._block = -1

    def __call__(self, step: int) -> Tensor:
        """eps [K,B,L] of step `step`; a smaller last batch uses the first rows."""
        self.draw_for(step)
        return self._eps[step % self.steps_per_draw]

    def draw_for(self, step: int) -> None:
        """Draw the noise of the steps around `step`, unless it is there."""
        block = step // self.steps_per_draw
        if block == self._block:
            return
        steps, _, batch_size, _ = self._eps.shape
        for k, (seed, latent) in enumerate(zip(self.seeds, self.latents, strict=True)):
            draw = generator("eps", seed, block, device=self._eps.device)
            eps = torch.randn(steps, batch_size, latent, generator=draw, device=self._eps.device, dtype=self._eps.dtype)
            self._eps[:, k, :, :latent] = eps
        self._block = block

    def of_number(self, step: Int[Tensor, " 1"]) -> Tensor:
        """eps [K,B,L] of a step whose number the device has, and whose noise is drawn."""
        return self._eps.index_select(0, step.remainder(self.steps_per_draw)).squeeze(0)
